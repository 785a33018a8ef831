-- +goose Up
-- add column "service_id" to table: "transactions"
ALTER TABLE `transactions` ADD COLUMN `service_id` uuid NULL;
-- create "services" table
CREATE TABLE `services` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NULL, `slug` text NOT NULL, `name` text NOT NULL, `description` text NULL, `base_url` text NOT NULL, `host` text NOT NULL, `credential_in` text NOT NULL DEFAULT ('none'), `credential_name` text NULL, `credential_prefix` text NULL, `sealed_credential` blob NULL, `active` bool NOT NULL DEFAULT (true), `price` json NOT NULL, `wallet_address` text NULL, `webhook_url` text NULL, `key_hash` blob NULL, PRIMARY KEY (`id`));
-- create index "services_slug_key" to table: "services"
CREATE UNIQUE INDEX `services_slug_key` ON `services` (`slug`);
-- create index "services_key_hash_key" to table: "services"
CREATE UNIQUE INDEX `services_key_hash_key` ON `services` (`key_hash`);
-- create index "service_org_id_created_at" to table: "services"
CREATE INDEX `service_org_id_created_at` ON `services` (`org_id`, `created_at`);
-- create "verifications" table
CREATE TABLE `verifications` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `service_id` uuid NOT NULL, `tx_hash` text NOT NULL, `amount` integer NOT NULL DEFAULT (0), PRIMARY KEY (`id`));
-- create index "verification_service_id_tx_hash" to table: "verifications"
CREATE UNIQUE INDEX `verification_service_id_tx_hash` ON `verifications` (`service_id`, `tx_hash`);

-- +goose Down
-- reverse: create index "verification_service_id_tx_hash" to table: "verifications"
DROP INDEX `verification_service_id_tx_hash`;
-- reverse: create "verifications" table
DROP TABLE `verifications`;
-- reverse: create index "service_org_id_created_at" to table: "services"
DROP INDEX `service_org_id_created_at`;
-- reverse: create index "services_key_hash_key" to table: "services"
DROP INDEX `services_key_hash_key`;
-- reverse: create index "services_slug_key" to table: "services"
DROP INDEX `services_slug_key`;
-- reverse: create "services" table
DROP TABLE `services`;
-- reverse: add column "service_id" to table: "transactions"
ALTER TABLE `transactions` DROP COLUMN `service_id`;
