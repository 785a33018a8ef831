-- +goose Up
-- add column "holder" to table: "operations"
ALTER TABLE `operations` ADD COLUMN `holder` uuid NULL;
-- add column "held_until_unix" to table: "operations"
ALTER TABLE `operations` ADD COLUMN `held_until_unix` integer NULL;
-- drop index "operation_agent_id_kind" from table: "operations"
DROP INDEX `operation_agent_id_kind`;
-- create index "operation_agent_id_kind_created_at" to table: "operations"
CREATE INDEX `operation_agent_id_kind_created_at` ON `operations` (`agent_id`, `kind`, `created_at`);

-- +goose Down
-- reverse: create index "operation_agent_id_kind_created_at" to table: "operations"
DROP INDEX `operation_agent_id_kind_created_at`;
-- reverse: drop index "operation_agent_id_kind" from table: "operations"
CREATE INDEX `operation_agent_id_kind` ON `operations` (`agent_id`, `kind`);
-- reverse: add column "held_until_unix" to table: "operations"
ALTER TABLE `operations` DROP COLUMN `held_until_unix`;
-- reverse: add column "holder" to table: "operations"
ALTER TABLE `operations` DROP COLUMN `holder`;
