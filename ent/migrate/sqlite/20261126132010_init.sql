-- +goose Up
-- create "api_keys" table
CREATE TABLE `api_keys` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `user_id` uuid NOT NULL, `kind` text NOT NULL, `name` text NOT NULL, `hash` blob NOT NULL, `prefix` text NOT NULL, `last4` text NOT NULL, `max_per_transaction` integer NULL, `daily_limit` integer NULL, `monthly_limit` integer NULL, `networks` json NULL, `expires_at` datetime NULL, `last_used_at` datetime NULL, `revoked_at` datetime NULL, PRIMARY KEY (`id`));
-- create index "api_keys_hash_key" to table: "api_keys"
CREATE UNIQUE INDEX `api_keys_hash_key` ON `api_keys` (`hash`);
-- create index "apikey_org_id_user_id" to table: "api_keys"
CREATE INDEX `apikey_org_id_user_id` ON `api_keys` (`org_id`, `user_id`);
-- create "accounts" table
CREATE TABLE `accounts` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `kind` text NOT NULL, `chain_id` integer NOT NULL, `owner_id` uuid NOT NULL, `org_id` uuid NULL, `agent_id` uuid NULL, `debits_pending` integer NOT NULL DEFAULT (0), `debits_posted` integer NOT NULL DEFAULT (0), `credits_posted` integer NOT NULL DEFAULT (0), `holds_until` integer NOT NULL DEFAULT (0), `version` integer NOT NULL DEFAULT (0), PRIMARY KEY (`id`), CONSTRAINT `account_available_not_negative` CHECK (kind NOT IN ('session', 'treasury') OR credits_posted >= debits_posted + debits_pending), CONSTRAINT `account_pending_not_negative` CHECK (debits_pending >= 0), CONSTRAINT `account_posted_not_negative` CHECK (kind IN ('external', 'suspense') OR credits_posted >= debits_posted));
-- create index "account_kind_chain_id_owner_id" to table: "accounts"
CREATE UNIQUE INDEX `account_kind_chain_id_owner_id` ON `accounts` (`kind`, `chain_id`, `owner_id`);
-- create "agents" table
CREATE TABLE `agents` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `owner_id` uuid NOT NULL, `department_id` uuid NULL, `name` text NOT NULL, `slug` text NOT NULL, `address` text NOT NULL, `sealed_key` blob NOT NULL, `active` bool NOT NULL DEFAULT (true), `is_default` bool NOT NULL DEFAULT (false), `auto_topup_threshold` integer NULL, `auto_topup_amount` integer NULL, `auto_topup_daily_limit` integer NULL, `auto_topup_source` text NULL, `auto_topup_error` text NULL, `auto_topup_failed_at` datetime NULL, `auto_topup_retry_unix` integer NOT NULL DEFAULT (0), `auto_topup_consent` blob NULL, `auto_topup_consent_unix` integer NOT NULL DEFAULT (0), `auto_topup_consent_by` uuid NULL, PRIMARY KEY (`id`));
-- create index "agents_address_key" to table: "agents"
CREATE UNIQUE INDEX `agents_address_key` ON `agents` (`address`);
-- create index "agent_owner_id_slug" to table: "agents"
CREATE UNIQUE INDEX `agent_owner_id_slug` ON `agents` (`owner_id`, `slug`);
-- create index "agent_org_id_created_at" to table: "agents"
CREATE INDEX `agent_org_id_created_at` ON `agents` (`org_id`, `created_at`);
-- create "attempts" table
CREATE TABLE `attempts` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `chain_tx_id` uuid NOT NULL, `hash` text NOT NULL, `raw` blob NOT NULL, `tip_wei` integer NOT NULL, `cap_wei` integer NOT NULL, `at_block` integer NOT NULL DEFAULT (0), PRIMARY KEY (`id`));
-- create index "attempts_hash_key" to table: "attempts"
CREATE UNIQUE INDEX `attempts_hash_key` ON `attempts` (`hash`);
-- create index "attempt_chain_tx_id" to table: "attempts"
CREATE INDEX `attempt_chain_tx_id` ON `attempts` (`chain_tx_id`);
-- create "audit_logs" table
CREATE TABLE `audit_logs` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `user_id` uuid NOT NULL, `action` text NOT NULL, `subject_id` uuid NOT NULL, PRIMARY KEY (`id`));
-- create index "auditlog_org_id_created_at" to table: "audit_logs"
CREATE INDEX `auditlog_org_id_created_at` ON `audit_logs` (`org_id`, `created_at`);
-- create "blocks" table
CREATE TABLE `blocks` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `chain_id` integer NOT NULL, `number` integer NOT NULL, `hash` text NOT NULL, `time_unix` integer NOT NULL);
-- create index "block_chain_id_number" to table: "blocks"
CREATE UNIQUE INDEX `block_chain_id_number` ON `blocks` (`chain_id`, `number`);
-- create "chain_txes" table
CREATE TABLE `chain_txes` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `chain_id` integer NOT NULL, `sender` text NOT NULL, `nonce` integer NOT NULL, `fee_wei` text NULL, PRIMARY KEY (`id`));
-- create index "chaintx_chain_id_sender_nonce" to table: "chain_txes"
CREATE UNIQUE INDEX `chaintx_chain_id_sender_nonce` ON `chain_txes` (`chain_id`, `sender`, `nonce`);
-- create "cursors" table
CREATE TABLE `cursors` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `block` integer NOT NULL, `hash` text NOT NULL, `time_unix` integer NOT NULL);
-- create "departments" table
CREATE TABLE `departments` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `name` text NOT NULL, `budget_limit` integer NULL, `version` integer NOT NULL DEFAULT (1), PRIMARY KEY (`id`));
-- create index "department_org_id_name" to table: "departments"
CREATE UNIQUE INDEX `department_org_id_name` ON `departments` (`org_id`, `name`);
-- create "events" table
CREATE TABLE `events` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `kind` text NOT NULL, `agent_id` uuid NOT NULL, `subject_id` uuid NOT NULL, PRIMARY KEY (`id`));
-- create index "event_org_id_created_at" to table: "events"
CREATE INDEX `event_org_id_created_at` ON `events` (`org_id`, `created_at`);
-- create "idempotency_keys" table
CREATE TABLE `idempotency_keys` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `user_id` uuid NOT NULL, `key` text NOT NULL, `input_hash` blob NOT NULL, `status` text NOT NULL DEFAULT ('running'), `owner` uuid NOT NULL, `lease_until_unix` integer NOT NULL, `subject_id` uuid NULL, `answer` blob NULL, `expires_unix` integer NOT NULL, PRIMARY KEY (`id`));
-- create index "idempotencykey_user_id_key" to table: "idempotency_keys"
CREATE UNIQUE INDEX `idempotencykey_user_id_key` ON `idempotency_keys` (`user_id`, `key`);
-- create index "idempotencykey_expires_unix" to table: "idempotency_keys"
CREATE INDEX `idempotencykey_expires_unix` ON `idempotency_keys` (`expires_unix`);
-- create "keysets" table
CREATE TABLE `keysets` (`id` integer NOT NULL PRIMARY KEY AUTOINCREMENT, `sealed` blob NOT NULL);
-- create "memberships" table
CREATE TABLE `memberships` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `user_id` uuid NOT NULL, `role` text NOT NULL, PRIMARY KEY (`id`));
-- create index "membership_org_id_user_id" to table: "memberships"
CREATE UNIQUE INDEX `membership_org_id_user_id` ON `memberships` (`org_id`, `user_id`);
-- create index "membership_user_id" to table: "memberships"
CREATE INDEX `membership_user_id` ON `memberships` (`user_id`);
-- create "operations" table
CREATE TABLE `operations` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `key` text NOT NULL, `chain_id` integer NOT NULL, `org_id` uuid NOT NULL, `agent_id` uuid NOT NULL, `session_id` uuid NULL, `transaction_id` uuid NOT NULL, `hold_id` uuid NULL, `kind` text NOT NULL, `status` text NOT NULL DEFAULT ('queued'), `from_address` text NOT NULL, `to_address` text NOT NULL, `amount` integer NOT NULL DEFAULT (0), `wei` text NULL, `auth_nonce` text NULL, `valid_before_unix` integer NULL, `signature` blob NULL, `chain_tx_id` uuid NULL, `tx_hash` text NULL, `block` integer NULL, `error` text NULL, PRIMARY KEY (`id`));
-- create index "operations_key_key" to table: "operations"
CREATE UNIQUE INDEX `operations_key_key` ON `operations` (`key`);
-- create index "operations_auth_nonce_key" to table: "operations"
CREATE UNIQUE INDEX `operations_auth_nonce_key` ON `operations` (`auth_nonce`);
-- create index "operation_status_created_at" to table: "operations"
CREATE INDEX `operation_status_created_at` ON `operations` (`status`, `created_at`);
-- create index "operation_session_id" to table: "operations"
CREATE INDEX `operation_session_id` ON `operations` (`session_id`);
-- create index "operation_agent_id_kind" to table: "operations"
CREATE INDEX `operation_agent_id_kind` ON `operations` (`agent_id`, `kind`);
-- create index "operation_block" to table: "operations"
CREATE INDEX `operation_block` ON `operations` (`block`);
-- create "orgs" table
CREATE TABLE `orgs` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `name` text NOT NULL, `kind` text NOT NULL DEFAULT ('personal'), `owner_id` uuid NOT NULL, `daily_limit` integer NULL, `monthly_limit` integer NULL, `spending_cap` integer NULL, `version` integer NOT NULL DEFAULT (1), PRIMARY KEY (`id`));
-- create "senders" table
CREATE TABLE `senders` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `chain_id` integer NOT NULL, `address` text NOT NULL, `next_nonce` integer NOT NULL, `lease_owner` uuid NULL, `lease_until_unix` integer NOT NULL DEFAULT (0), PRIMARY KEY (`id`));
-- create index "sender_chain_id_address" to table: "senders"
CREATE UNIQUE INDEX `sender_chain_id_address` ON `senders` (`chain_id`, `address`);
-- create "sessions" table
CREATE TABLE `sessions` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `agent_id` uuid NOT NULL, `status` text NOT NULL DEFAULT ('opening'), `expires_unix` integer NOT NULL, `closed_at` datetime NULL, PRIMARY KEY (`id`));
-- create index "session_org_id_created_at" to table: "sessions"
CREATE INDEX `session_org_id_created_at` ON `sessions` (`org_id`, `created_at`);
-- create index "session_agent_id_status" to table: "sessions"
CREATE INDEX `session_agent_id_status` ON `sessions` (`agent_id`, `status`);
-- create index "session_status_expires_unix" to table: "sessions"
CREATE INDEX `session_status_expires_unix` ON `sessions` (`status`, `expires_unix`);
-- create "spending_policies" table
CREATE TABLE `spending_policies` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `spending_cap` integer NULL, `daily_limit` integer NULL, `monthly_limit` integer NULL, `per_call_max` integer NULL, `allowed_services` json NOT NULL, `blocked_services` json NOT NULL, `require_session` bool NOT NULL DEFAULT (false), `version` integer NOT NULL DEFAULT (1), `agent_id` uuid NOT NULL, PRIMARY KEY (`id`), CONSTRAINT `spending_policies_agents_policy` FOREIGN KEY (`agent_id`) REFERENCES `agents` (`id`) ON DELETE NO ACTION);
-- create index "spending_policies_agent_id_key" to table: "spending_policies"
CREATE UNIQUE INDEX `spending_policies_agent_id_key` ON `spending_policies` (`agent_id`);
-- create "transactions" table
CREATE TABLE `transactions` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `org_id` uuid NOT NULL, `agent_id` uuid NOT NULL, `session_id` uuid NULL, `credential_id` uuid NULL, `kind` text NOT NULL, `status` text NOT NULL DEFAULT ('pending'), `quoted` integer NOT NULL DEFAULT (0), `amount` integer NOT NULL DEFAULT (0), `wei` text NULL, `from_address` text NULL, `to_address` text NULL, `tx_hash` text NULL, `service` text NULL, `endpoint` text NULL, `method` text NULL, `protocol` text NULL, `scheme` text NULL, `network` text NULL, `upstream_status` integer NULL, `reason` text NULL, `auth_nonce` text NULL, `valid_before_unix` integer NULL, `hold_id` uuid NULL, `settled_at` datetime NULL, PRIMARY KEY (`id`));
-- create index "transactions_auth_nonce_key" to table: "transactions"
CREATE UNIQUE INDEX `transactions_auth_nonce_key` ON `transactions` (`auth_nonce`);
-- create index "transaction_org_id_created_at" to table: "transactions"
CREATE INDEX `transaction_org_id_created_at` ON `transactions` (`org_id`, `created_at`);
-- create index "transaction_agent_id_created_at" to table: "transactions"
CREATE INDEX `transaction_agent_id_created_at` ON `transactions` (`agent_id`, `created_at`);
-- create index "transaction_session_id" to table: "transactions"
CREATE INDEX `transaction_session_id` ON `transactions` (`session_id`);
-- create index "transaction_status_valid_before_unix" to table: "transactions"
CREATE INDEX `transaction_status_valid_before_unix` ON `transactions` (`status`, `valid_before_unix`);
-- create "transfers" table
CREATE TABLE `transfers` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `key` text NOT NULL, `debit_id` uuid NOT NULL, `credit_id` uuid NOT NULL, `status` text NOT NULL, `amount` integer NOT NULL DEFAULT (0), `posted` integer NOT NULL DEFAULT (0), `code` text NOT NULL, `transaction_id` uuid NULL, `counters` text NULL, `log_key` text NULL, `block` integer NULL, `ended_at` datetime NULL, PRIMARY KEY (`id`), CONSTRAINT `transfer_accounts` CHECK (debit_id <> credit_id), CONSTRAINT `transfer_amounts` CHECK (amount > 0 AND posted >= 0 AND posted <= amount), CONSTRAINT `transfer_ends` CHECK ((status = 'posted') = (posted > 0)));
-- create index "transfers_key_key" to table: "transfers"
CREATE UNIQUE INDEX `transfers_key_key` ON `transfers` (`key`);
-- create index "transfers_log_key_key" to table: "transfers"
CREATE UNIQUE INDEX `transfers_log_key_key` ON `transfers` (`log_key`);
-- create index "transfer_debit_id_created_at" to table: "transfers"
CREATE INDEX `transfer_debit_id_created_at` ON `transfers` (`debit_id`, `created_at`);
-- create index "transfer_credit_id_created_at" to table: "transfers"
CREATE INDEX `transfer_credit_id_created_at` ON `transfers` (`credit_id`, `created_at`);
-- create index "transfer_transaction_id" to table: "transfers"
CREATE INDEX `transfer_transaction_id` ON `transfers` (`transaction_id`);
-- create index "transfer_block" to table: "transfers"
CREATE INDEX `transfer_block` ON `transfers` (`block`);
-- create "usages" table
CREATE TABLE `usages` (`id` text NOT NULL, `spent` integer NOT NULL DEFAULT (0), `calls` integer NOT NULL DEFAULT (0), PRIMARY KEY (`id`), CONSTRAINT `usage_not_negative` CHECK (spent >= 0 AND calls >= 0));
-- create "users" table
CREATE TABLE `users` (`id` uuid NOT NULL, `created_at` datetime NOT NULL, `email` text NULL, `password_hash` text NULL, `wallet_address` text NULL, PRIMARY KEY (`id`));
-- create index "users_email_key" to table: "users"
CREATE UNIQUE INDEX `users_email_key` ON `users` (`email`);

-- +goose Down
-- reverse: create index "users_email_key" to table: "users"
DROP INDEX `users_email_key`;
-- reverse: create "users" table
DROP TABLE `users`;
-- reverse: create "usages" table
DROP TABLE `usages`;
-- reverse: create index "transfer_block" to table: "transfers"
DROP INDEX `transfer_block`;
-- reverse: create index "transfer_transaction_id" to table: "transfers"
DROP INDEX `transfer_transaction_id`;
-- reverse: create index "transfer_credit_id_created_at" to table: "transfers"
DROP INDEX `transfer_credit_id_created_at`;
-- reverse: create index "transfer_debit_id_created_at" to table: "transfers"
DROP INDEX `transfer_debit_id_created_at`;
-- reverse: create index "transfers_log_key_key" to table: "transfers"
DROP INDEX `transfers_log_key_key`;
-- reverse: create index "transfers_key_key" to table: "transfers"
DROP INDEX `transfers_key_key`;
-- reverse: create "transfers" table
DROP TABLE `transfers`;
-- reverse: create index "transaction_status_valid_before_unix" to table: "transactions"
DROP INDEX `transaction_status_valid_before_unix`;
-- reverse: create index "transaction_session_id" to table: "transactions"
DROP INDEX `transaction_session_id`;
-- reverse: create index "transaction_agent_id_created_at" to table: "transactions"
DROP INDEX `transaction_agent_id_created_at`;
-- reverse: create index "transaction_org_id_created_at" to table: "transactions"
DROP INDEX `transaction_org_id_created_at`;
-- reverse: create index "transactions_auth_nonce_key" to table: "transactions"
DROP INDEX `transactions_auth_nonce_key`;
-- reverse: create "transactions" table
DROP TABLE `transactions`;
-- reverse: create index "spending_policies_agent_id_key" to table: "spending_policies"
DROP INDEX `spending_policies_agent_id_key`;
-- reverse: create "spending_policies" table
DROP TABLE `spending_policies`;
-- reverse: create index "session_status_expires_unix" to table: "sessions"
DROP INDEX `session_status_expires_unix`;
-- reverse: create index "session_agent_id_status" to table: "sessions"
DROP INDEX `session_agent_id_status`;
-- reverse: create index "session_org_id_created_at" to table: "sessions"
DROP INDEX `session_org_id_created_at`;
-- reverse: create "sessions" table
DROP TABLE `sessions`;
-- reverse: create index "sender_chain_id_address" to table: "senders"
DROP INDEX `sender_chain_id_address`;
-- reverse: create "senders" table
DROP TABLE `senders`;
-- reverse: create "orgs" table
DROP TABLE `orgs`;
-- reverse: create index "operation_block" to table: "operations"
DROP INDEX `operation_block`;
-- reverse: create index "operation_agent_id_kind" to table: "operations"
DROP INDEX `operation_agent_id_kind`;
-- reverse: create index "operation_session_id" to table: "operations"
DROP INDEX `operation_session_id`;
-- reverse: create index "operation_status_created_at" to table: "operations"
DROP INDEX `operation_status_created_at`;
-- reverse: create index "operations_auth_nonce_key" to table: "operations"
DROP INDEX `operations_auth_nonce_key`;
-- reverse: create index "operations_key_key" to table: "operations"
DROP INDEX `operations_key_key`;
-- reverse: create "operations" table
DROP TABLE `operations`;
-- reverse: create index "membership_user_id" to table: "memberships"
DROP INDEX `membership_user_id`;
-- reverse: create index "membership_org_id_user_id" to table: "memberships"
DROP INDEX `membership_org_id_user_id`;
-- reverse: create "memberships" table
DROP TABLE `memberships`;
-- reverse: create "keysets" table
DROP TABLE `keysets`;
-- reverse: create index "idempotencykey_expires_unix" to table: "idempotency_keys"
DROP INDEX `idempotencykey_expires_unix`;
-- reverse: create index "idempotencykey_user_id_key" to table: "idempotency_keys"
DROP INDEX `idempotencykey_user_id_key`;
-- reverse: create "idempotency_keys" table
DROP TABLE `idempotency_keys`;
-- reverse: create index "event_org_id_created_at" to table: "events"
DROP INDEX `event_org_id_created_at`;
-- reverse: create "events" table
DROP TABLE `events`;
-- reverse: create index "department_org_id_name" to table: "departments"
DROP INDEX `department_org_id_name`;
-- reverse: create "departments" table
DROP TABLE `departments`;
-- reverse: create "cursors" table
DROP TABLE `cursors`;
-- reverse: create index "chaintx_chain_id_sender_nonce" to table: "chain_txes"
DROP INDEX `chaintx_chain_id_sender_nonce`;
-- reverse: create "chain_txes" table
DROP TABLE `chain_txes`;
-- reverse: create index "block_chain_id_number" to table: "blocks"
DROP INDEX `block_chain_id_number`;
-- reverse: create "blocks" table
DROP TABLE `blocks`;
-- reverse: create index "auditlog_org_id_created_at" to table: "audit_logs"
DROP INDEX `auditlog_org_id_created_at`;
-- reverse: create "audit_logs" table
DROP TABLE `audit_logs`;
-- reverse: create index "attempt_chain_tx_id" to table: "attempts"
DROP INDEX `attempt_chain_tx_id`;
-- reverse: create index "attempts_hash_key" to table: "attempts"
DROP INDEX `attempts_hash_key`;
-- reverse: create "attempts" table
DROP TABLE `attempts`;
-- reverse: create index "agent_org_id_created_at" to table: "agents"
DROP INDEX `agent_org_id_created_at`;
-- reverse: create index "agent_owner_id_slug" to table: "agents"
DROP INDEX `agent_owner_id_slug`;
-- reverse: create index "agents_address_key" to table: "agents"
DROP INDEX `agents_address_key`;
-- reverse: create "agents" table
DROP TABLE `agents`;
-- reverse: create index "account_kind_chain_id_owner_id" to table: "accounts"
DROP INDEX `account_kind_chain_id_owner_id`;
-- reverse: create "accounts" table
DROP TABLE `accounts`;
-- reverse: create index "apikey_org_id_user_id" to table: "api_keys"
DROP INDEX `apikey_org_id_user_id`;
-- reverse: create index "api_keys_hash_key" to table: "api_keys"
DROP INDEX `api_keys_hash_key`;
-- reverse: create "api_keys" table
DROP TABLE `api_keys`;
