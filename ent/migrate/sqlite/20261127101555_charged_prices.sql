-- +goose Up
-- add column "price_id" to table: "transactions"
ALTER TABLE `transactions` ADD COLUMN `price_id` uuid NULL;
-- add column "usual" to table: "prices"
ALTER TABLE `prices` ADD COLUMN `usual` integer NULL;

-- +goose Down
-- reverse: add column "usual" to table: "prices"
ALTER TABLE `prices` DROP COLUMN `usual`;
-- reverse: add column "price_id" to table: "transactions"
ALTER TABLE `transactions` DROP COLUMN `price_id`;
