-- +goose Up
-- add column "permit2" to table: "transactions"
ALTER TABLE `transactions` ADD COLUMN `permit2` bool NOT NULL DEFAULT false;
-- create index "transaction_from_address_valid_before_unix" to table: "transactions"
CREATE INDEX `transaction_from_address_valid_before_unix` ON `transactions` (`from_address`, `valid_before_unix`) WHERE permit2;

-- +goose Down
-- reverse: create index "transaction_from_address_valid_before_unix" to table: "transactions"
DROP INDEX `transaction_from_address_valid_before_unix`;
-- reverse: add column "permit2" to table: "transactions"
ALTER TABLE `transactions` DROP COLUMN `permit2`;
