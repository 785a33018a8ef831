-- +goose Up
-- disable the enforcement of foreign-keys constraints
PRAGMA foreign_keys = off;
-- create "new_spending_policies" table
CREATE TABLE `new_spending_policies` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `spending_cap` integer NULL, `daily_limit` integer NULL, `monthly_limit` integer NULL, `per_call_max` integer NULL, `allowed_services` json NOT NULL, `blocked_services` json NOT NULL, `require_session` bool NOT NULL DEFAULT (false), `new_payee` text NOT NULL DEFAULT ('note'), `changed_payee` text NOT NULL DEFAULT ('note'), `price_jump` text NOT NULL DEFAULT ('note'), `price_jump_percent` integer NOT NULL DEFAULT (150), `approve_above` integer NULL, `version` integer NOT NULL DEFAULT (1), `agent_id` uuid NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `spending_policies_agents_policy` FOREIGN KEY (`agent_id`) REFERENCES `agents` (`id`) ON DELETE NO ACTION);
-- copy rows from old table "spending_policies" to new temporary table "new_spending_policies"
INSERT INTO `new_spending_policies` (`id`, `created_at`, `spending_cap`, `daily_limit`, `monthly_limit`, `per_call_max`, `allowed_services`, `blocked_services`, `require_session`, `version`, `agent_id`) SELECT `id`, `created_at`, `spending_cap`, `daily_limit`, `monthly_limit`, `per_call_max`, `allowed_services`, `blocked_services`, `require_session`, `version`, `agent_id` FROM `spending_policies`;
-- drop "spending_policies" table after copying rows
DROP TABLE `spending_policies`;
-- rename temporary table "new_spending_policies" to "spending_policies"
ALTER TABLE `new_spending_policies` RENAME TO `spending_policies`;
-- create index "spending_policies_agent_id_key" to table: "spending_policies"
CREATE UNIQUE INDEX `spending_policies_agent_id_key` ON `spending_policies` (`agent_id`);
-- create "approvals" table
CREATE TABLE `approvals` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `agent_id` uuid NOT NULL, `credential_id` uuid NULL, `host` text NOT NULL, `payee` text NOT NULL, `network` text NOT NULL, `asset` text NOT NULL, `ceiling` integer NOT NULL DEFAULT (0), `method` text NOT NULL, `endpoint` text NOT NULL, `protocol` text NOT NULL, `rule` text NOT NULL, `reason` text NOT NULL, `status` text NOT NULL DEFAULT ('pending'), `expires_unix` integer NOT NULL, `decided_at` datetime NULL, `decided_by` uuid NULL, `decision_reason` text NULL, `payment_id` uuid NULL, PRIMARY KEY (`id`));
-- create index "approval_org_id_created_at" to table: "approvals"
CREATE INDEX `approval_org_id_created_at` ON `approvals` (`org_id`, `created_at`);
-- create index "approval_status_expires_unix" to table: "approvals"
CREATE INDEX `approval_status_expires_unix` ON `approvals` (`status`, `expires_unix`);
-- create index "approval_agent_id_host_payee_network_asset_status" to table: "approvals"
CREATE INDEX `approval_agent_id_host_payee_network_asset_status` ON `approvals` (`agent_id`, `host`, `payee`, `network`, `asset`, `status`);
-- create index "approval_pending" to table: "approvals"
CREATE UNIQUE INDEX `approval_pending` ON `approvals` (`agent_id`, `host`, `payee`, `network`, `asset`) WHERE status = 'pending';
-- enable back the enforcement of foreign-keys constraints
PRAGMA foreign_keys = on;

-- +goose Down
-- reverse: create index "approval_pending" to table: "approvals"
DROP INDEX `approval_pending`;
-- reverse: create index "approval_agent_id_host_payee_network_asset_status" to table: "approvals"
DROP INDEX `approval_agent_id_host_payee_network_asset_status`;
-- reverse: create index "approval_status_expires_unix" to table: "approvals"
DROP INDEX `approval_status_expires_unix`;
-- reverse: create index "approval_org_id_created_at" to table: "approvals"
DROP INDEX `approval_org_id_created_at`;
-- reverse: create "approvals" table
DROP TABLE `approvals`;
-- reverse: create index "spending_policies_agent_id_key" to table: "spending_policies"
DROP INDEX `spending_policies_agent_id_key`;
-- reverse: create "new_spending_policies" table
DROP TABLE `new_spending_policies`;
