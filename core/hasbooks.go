package core

import (
	"context"
	"fmt"
)

// HasBooks reports whether a database has this program's schema, in any version, and changes nothing. It is for who must not
// make one, as OpenDB does; an SQLite file must be there.
func HasBooks(ctx context.Context, databaseURL string) (bool, error) {
	driver, dsn, tables := "sqlite", "file:"+databaseURL+"?mode=rw&_pragma=busy_timeout(10000)", "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name IN "
	if isPostgres(databaseURL) {
		driver, dsn = "postgres", databaseURL
		tables = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename IN "
	}
	db, err := open(driver, dsn, 1)
	if err != nil {
		return false, err
	}
	defer db.Close()
	var known int
	if err := db.QueryRowContext(ctx, tables+"('goose_db_version', 'accounts', 'transfers', 'chain_txes')").Scan(&known); err != nil {
		return false, fmt.Errorf("core: database %s: %w", redacted(databaseURL), err)
	}
	return known == 4, nil
}
