-- +goose Up
-- modify "prices" table
ALTER TABLE "prices" ADD COLUMN "usual" bigint NULL;
-- modify "transactions" table
ALTER TABLE "transactions" ADD COLUMN "price_id" uuid NULL;

-- +goose Down
-- reverse: modify "transactions" table
ALTER TABLE "transactions" DROP COLUMN "price_id";
-- reverse: modify "prices" table
ALTER TABLE "prices" DROP COLUMN "usual";
