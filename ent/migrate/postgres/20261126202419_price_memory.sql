-- +goose Up
-- create "payees" table
CREATE TABLE "payees" ("id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "org_id" uuid NOT NULL, "host_id" uuid NOT NULL, "host" character varying NOT NULL, "address" character varying NOT NULL, "number" bigint NOT NULL, "agent_id" uuid NOT NULL, "payment_id" uuid NOT NULL, PRIMARY KEY ("id"));
-- create index "payee_host_id_address" to table: "payees"
CREATE UNIQUE INDEX "payee_host_id_address" ON "payees" ("host_id", "address");
-- create index "payee_host_id_number" to table: "payees"
CREATE UNIQUE INDEX "payee_host_id_number" ON "payees" ("host_id", "number");
-- create "prices" table
CREATE TABLE "prices" ("id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "org_id" uuid NOT NULL, "host_id" uuid NOT NULL, "host" character varying NOT NULL, "route" character varying NOT NULL, "protocol" character varying NOT NULL, "scheme" character varying NOT NULL, "network" character varying NOT NULL, "asset" character varying NOT NULL, "payee" character varying NOT NULL, "amount" bigint NOT NULL DEFAULT 0, "offer" text NOT NULL, "same" bigint NOT NULL, "since_unix" bigint NOT NULL, "seen_unix" bigint NOT NULL, PRIMARY KEY ("id"));
-- create index "price_host_id_seen_unix" to table: "prices"
CREATE INDEX "price_host_id_seen_unix" ON "prices" ("host_id", "seen_unix");

-- +goose Down
-- reverse: create index "price_host_id_seen_unix" to table: "prices"
DROP INDEX "price_host_id_seen_unix";
-- reverse: create "prices" table
DROP TABLE "prices";
-- reverse: create index "payee_host_id_number" to table: "payees"
DROP INDEX "payee_host_id_number";
-- reverse: create index "payee_host_id_address" to table: "payees"
DROP INDEX "payee_host_id_address";
-- reverse: create "payees" table
DROP TABLE "payees";
