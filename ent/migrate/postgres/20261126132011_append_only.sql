-- Written by hand: the history of money is append-only, whoever writes. A transfer is inserted, and ended once if it
-- began as a hold; it is never deleted, and nothing else of it changes. docs/ledger.md tells what this guards against.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION transfers_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'transfers are append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END $$;
-- +goose StatementEnd
CREATE TRIGGER transfers_insert BEFORE INSERT ON "transfers" FOR EACH ROW
  WHEN ((NEW.status = 'pending') <> (NEW.ended_at IS NULL))
  EXECUTE FUNCTION transfers_refuse();
CREATE TRIGGER transfers_update BEFORE UPDATE ON "transfers" FOR EACH ROW
  WHEN (OLD.status <> 'pending' OR (NEW.status = 'pending') <> (NEW.ended_at IS NULL)
    OR (NEW.id, NEW.created_at, NEW.key, NEW.debit_id, NEW.credit_id, NEW.amount, NEW.code, NEW.transaction_id, NEW.counters)
      IS DISTINCT FROM (OLD.id, OLD.created_at, OLD.key, OLD.debit_id, OLD.credit_id, OLD.amount, OLD.code, OLD.transaction_id, OLD.counters))
  EXECUTE FUNCTION transfers_refuse();
CREATE TRIGGER transfers_delete BEFORE DELETE ON "transfers" FOR EACH ROW EXECUTE FUNCTION transfers_refuse();
CREATE TRIGGER transfers_truncate BEFORE TRUNCATE ON "transfers" FOR EACH STATEMENT EXECUTE FUNCTION transfers_refuse();

-- +goose Down
DROP TRIGGER transfers_truncate ON "transfers";
DROP TRIGGER transfers_delete ON "transfers";
DROP TRIGGER transfers_update ON "transfers";
DROP TRIGGER transfers_insert ON "transfers";
DROP FUNCTION transfers_refuse;
