-- +goose Up
-- modify "transactions" table
ALTER TABLE "transactions" ADD COLUMN "service_id" uuid NULL;
-- create "services" table
CREATE TABLE "services" ("id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "org_id" uuid NULL, "slug" character varying NOT NULL, "name" character varying NOT NULL, "description" character varying NULL, "base_url" character varying NOT NULL, "host" character varying NOT NULL, "credential_in" character varying NOT NULL DEFAULT 'none', "credential_name" character varying NULL, "credential_prefix" character varying NULL, "sealed_credential" bytea NULL, "active" boolean NOT NULL DEFAULT true, "price" jsonb NOT NULL, "wallet_address" character varying NULL, "webhook_url" character varying NULL, "key_hash" bytea NULL, PRIMARY KEY ("id"));
-- create index "service_org_id_created_at" to table: "services"
CREATE INDEX "service_org_id_created_at" ON "services" ("org_id", "created_at");
-- create index "services_key_hash_key" to table: "services"
CREATE UNIQUE INDEX "services_key_hash_key" ON "services" ("key_hash");
-- create index "services_slug_key" to table: "services"
CREATE UNIQUE INDEX "services_slug_key" ON "services" ("slug");
-- create "verifications" table
CREATE TABLE "verifications" ("id" uuid NOT NULL, "created_at" timestamptz NOT NULL, "service_id" uuid NOT NULL, "tx_hash" character varying NOT NULL, "amount" bigint NOT NULL DEFAULT 0, PRIMARY KEY ("id"));
-- create index "verification_service_id_tx_hash" to table: "verifications"
CREATE UNIQUE INDEX "verification_service_id_tx_hash" ON "verifications" ("service_id", "tx_hash");

-- +goose Down
-- reverse: create index "verification_service_id_tx_hash" to table: "verifications"
DROP INDEX "verification_service_id_tx_hash";
-- reverse: create "verifications" table
DROP TABLE "verifications";
-- reverse: create index "services_slug_key" to table: "services"
DROP INDEX "services_slug_key";
-- reverse: create index "services_key_hash_key" to table: "services"
DROP INDEX "services_key_hash_key";
-- reverse: create index "service_org_id_created_at" to table: "services"
DROP INDEX "service_org_id_created_at";
-- reverse: create "services" table
DROP TABLE "services";
-- reverse: modify "transactions" table
ALTER TABLE "transactions" DROP COLUMN "service_id";
