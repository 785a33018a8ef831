-- +goose Up
-- create index "transaction_service_id" to table: "transactions"
CREATE INDEX "transaction_service_id" ON "transactions" ("service_id");

-- +goose Down
-- reverse: create index "transaction_service_id" to table: "transactions"
DROP INDEX "transaction_service_id";
