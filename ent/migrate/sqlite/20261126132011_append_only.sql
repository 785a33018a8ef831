-- Written by hand: the history of money is append-only, whoever writes. A transfer is inserted, and ended once if it
-- began as a hold; it is never deleted, and nothing else of it changes. docs/ledger.md tells what this guards against.
--
-- REPLACE deletes the rows that are in its way without asking a trigger of deletion, hence the conditions with EXISTS and
-- those on the rowid. (A rowid that an INSERT does not give is -1 here.)

-- +goose Up
-- +goose StatementBegin
CREATE TRIGGER transfers_insert BEFORE INSERT ON transfers
  WHEN (NEW.status = 'pending') <> (NEW.ended_at IS NULL)
    OR EXISTS (SELECT 1 FROM transfers t WHERE t.rowid = NEW.rowid)
    OR EXISTS (SELECT 1 FROM transfers t WHERE t.id = NEW.id)
    OR EXISTS (SELECT 1 FROM transfers t WHERE t.key = NEW.key)
    OR EXISTS (SELECT 1 FROM transfers t WHERE t.log_key = NEW.log_key)
BEGIN
  SELECT RAISE(ABORT, 'transfers are append-only: INSERT refused');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER transfers_update BEFORE UPDATE ON transfers
  WHEN OLD.status <> 'pending' OR (NEW.status = 'pending') <> (NEW.ended_at IS NULL)
    OR (NEW.rowid, NEW.id, NEW.created_at, NEW.key, NEW.debit_id, NEW.credit_id, NEW.amount, NEW.code, NEW.transaction_id, NEW.counters)
      IS NOT (OLD.rowid, OLD.id, OLD.created_at, OLD.key, OLD.debit_id, OLD.credit_id, OLD.amount, OLD.code, OLD.transaction_id, OLD.counters)
    OR EXISTS (SELECT 1 FROM transfers t WHERE t.log_key = NEW.log_key AND t.id <> OLD.id)
BEGIN
  SELECT RAISE(ABORT, 'transfers are append-only: UPDATE refused');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER transfers_delete BEFORE DELETE ON transfers
BEGIN
  SELECT RAISE(ABORT, 'transfers are append-only: DELETE refused');
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER transfers_delete;
DROP TRIGGER transfers_update;
DROP TRIGGER transfers_insert;
