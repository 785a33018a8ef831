-- +goose Up
-- modify "transactions" table
ALTER TABLE "transactions" ADD COLUMN "receipt" character varying NULL;
-- create "traces" table
CREATE TABLE "traces" ("id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "org_id" uuid NOT NULL, "agent_id" uuid NOT NULL, "credential_id" uuid NULL, "session_id" uuid NULL, "outcome" character varying NOT NULL, "code" character varying NULL, "reason" character varying NULL, "method" character varying NOT NULL, "service" character varying NOT NULL, "host" character varying NOT NULL, "endpoint" character varying NOT NULL, "amount" bigint NOT NULL DEFAULT 0, "detail" jsonb NOT NULL, PRIMARY KEY ("id"));
-- create index "trace_agent_id_created_at" to table: "traces"
CREATE INDEX "trace_agent_id_created_at" ON "traces" ("agent_id", "created_at");
-- create index "trace_org_id_created_at" to table: "traces"
CREATE INDEX "trace_org_id_created_at" ON "traces" ("org_id", "created_at");

-- +goose Down
-- reverse: create index "trace_org_id_created_at" to table: "traces"
DROP INDEX "trace_org_id_created_at";
-- reverse: create index "trace_agent_id_created_at" to table: "traces"
DROP INDEX "trace_agent_id_created_at";
-- reverse: create "traces" table
DROP TABLE "traces";
-- reverse: modify "transactions" table
ALTER TABLE "transactions" DROP COLUMN "receipt";
