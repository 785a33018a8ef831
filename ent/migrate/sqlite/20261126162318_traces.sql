-- +goose Up
-- add column "receipt" to table: "transactions"
ALTER TABLE `transactions` ADD COLUMN `receipt` text NULL;
-- create "traces" table
CREATE TABLE `traces` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `agent_id` uuid NOT NULL, `credential_id` uuid NULL, `session_id` uuid NULL, `outcome` text NOT NULL, `code` text NULL, `reason` text NULL, `method` text NOT NULL, `service` text NOT NULL, `host` text NOT NULL, `endpoint` text NOT NULL, `amount` integer NOT NULL DEFAULT (0), `detail` json NOT NULL, PRIMARY KEY (`id`));
-- create index "trace_org_id_created_at" to table: "traces"
CREATE INDEX `trace_org_id_created_at` ON `traces` (`org_id`, `created_at`);
-- create index "trace_agent_id_created_at" to table: "traces"
CREATE INDEX `trace_agent_id_created_at` ON `traces` (`agent_id`, `created_at`);

-- +goose Down
-- reverse: create index "trace_agent_id_created_at" to table: "traces"
DROP INDEX `trace_agent_id_created_at`;
-- reverse: create index "trace_org_id_created_at" to table: "traces"
DROP INDEX `trace_org_id_created_at`;
-- reverse: create "traces" table
DROP TABLE `traces`;
-- reverse: add column "receipt" to table: "transactions"
ALTER TABLE `transactions` DROP COLUMN `receipt`;
