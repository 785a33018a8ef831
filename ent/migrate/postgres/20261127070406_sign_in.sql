-- +goose Up
-- modify "spending_policies" table
ALTER TABLE "spending_policies" ADD COLUMN "sign_in" boolean NOT NULL DEFAULT false;
-- drop index "trace_created_at" from table: "traces"
DROP INDEX "trace_created_at";
-- create index "trace_created_at" to table: "traces"
CREATE INDEX "trace_created_at" ON "traces" ("created_at") WHERE ((outcome)::text <> 'allowed'::text);
-- create index "transaction_agent_id_service" to table: "transactions"
CREATE INDEX "transaction_agent_id_service" ON "transactions" ("agent_id", "service") WHERE ((session_id IS NULL) AND (service_id IS NULL));

-- +goose Down
-- reverse: create index "transaction_agent_id_service" to table: "transactions"
DROP INDEX "transaction_agent_id_service";
-- reverse: create index "trace_created_at" to table: "traces"
DROP INDEX "trace_created_at";
-- reverse: drop index "trace_created_at" from table: "traces"
CREATE INDEX "trace_created_at" ON "traces" ("created_at") WHERE ((outcome)::text = 'refused'::text);
-- reverse: modify "spending_policies" table
ALTER TABLE "spending_policies" DROP COLUMN "sign_in";
