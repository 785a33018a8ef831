-- +goose Up
-- modify "spending_policies" table
ALTER TABLE "spending_policies" ADD COLUMN "new_payee" character varying NOT NULL DEFAULT 'note', ADD COLUMN "changed_payee" character varying NOT NULL DEFAULT 'note', ADD COLUMN "price_jump" character varying NOT NULL DEFAULT 'note', ADD COLUMN "price_jump_percent" bigint NOT NULL DEFAULT 150, ADD COLUMN "approve_above" bigint NULL;
-- create "approvals" table
CREATE TABLE "approvals" ("id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "org_id" uuid NOT NULL, "agent_id" uuid NOT NULL, "credential_id" uuid NULL, "host" character varying NOT NULL, "payee" character varying NOT NULL, "network" character varying NOT NULL, "asset" character varying NOT NULL, "ceiling" bigint NOT NULL DEFAULT 0, "method" character varying NOT NULL, "endpoint" character varying NOT NULL, "protocol" character varying NOT NULL, "rule" character varying NOT NULL, "reason" character varying NOT NULL, "status" character varying NOT NULL DEFAULT 'pending', "expires_unix" bigint NOT NULL, "decided_at" timestamptz NULL, "decided_by" uuid NULL, "decision_reason" character varying NULL, "payment_id" uuid NULL, PRIMARY KEY ("id"));
-- create index "approval_agent_id_host_payee_network_asset_status" to table: "approvals"
CREATE INDEX "approval_agent_id_host_payee_network_asset_status" ON "approvals" ("agent_id", "host", "payee", "network", "asset", "status");
-- create index "approval_org_id_created_at" to table: "approvals"
CREATE INDEX "approval_org_id_created_at" ON "approvals" ("org_id", "created_at");
-- create index "approval_pending" to table: "approvals"
CREATE UNIQUE INDEX "approval_pending" ON "approvals" ("agent_id", "host", "payee", "network", "asset") WHERE ((status)::text = 'pending'::text);
-- create index "approval_status_expires_unix" to table: "approvals"
CREATE INDEX "approval_status_expires_unix" ON "approvals" ("status", "expires_unix");

-- +goose Down
-- reverse: create index "approval_status_expires_unix" to table: "approvals"
DROP INDEX "approval_status_expires_unix";
-- reverse: create index "approval_pending" to table: "approvals"
DROP INDEX "approval_pending";
-- reverse: create index "approval_org_id_created_at" to table: "approvals"
DROP INDEX "approval_org_id_created_at";
-- reverse: create index "approval_agent_id_host_payee_network_asset_status" to table: "approvals"
DROP INDEX "approval_agent_id_host_payee_network_asset_status";
-- reverse: create "approvals" table
DROP TABLE "approvals";
-- reverse: modify "spending_policies" table
ALTER TABLE "spending_policies" DROP COLUMN "approve_above", DROP COLUMN "price_jump_percent", DROP COLUMN "price_jump", DROP COLUMN "changed_payee", DROP COLUMN "new_payee";
