package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"bursar/config"
	"bursar/core"
)

// audit proves the books and prints the outcome. A server that runs on the same data folder is asked for its
// chain, otherwise the chain is opened here. Where there are no books it makes none.
func audit(ctx context.Context, cfg config.Config, log *slog.Logger, out io.Writer) error {
	if err := findBooks(ctx, cfg); err != nil {
		return err
	}
	secrets, err := cfg.Secrets()
	if err != nil {
		return err
	}
	n, err := auditNetwork(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	app, db, err := openCore(ctx, cfg, secrets, log, n, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := app.Funding.ReadChain(ctx); err != nil {
		return err
	}
	a, err := app.Books.Audit(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "block %d: %d accounts, %d transfers\nplatform address %s = sessions %s + clearing %s + treasury %s + suspense %s + sellers %s\n", a.Block,
		a.Accounts, a.Transfers, a.Platform.OnChain.Decimal(), a.Platform.Sessions.Decimal(), a.Platform.Clearing.Decimal(), a.Platform.Treasury.Decimal(), a.Platform.Suspense.Decimal(), a.Platform.Sellers.Decimal())
	for _, d := range a.Differences {
		_, _ = fmt.Fprintln(out, "DIFFERENCE:", d)
	}
	if len(a.Differences) > 0 {
		return fmt.Errorf("the books do not balance: %d differences", len(a.Differences))
	}
	_, _ = fmt.Fprintln(out, "the books balance")
	return err
}

// findBooks refuses to prove books that are not there: a name that is mistyped would be an empty book, which balances.
func findBooks(ctx context.Context, cfg config.Config) error {
	where := databaseURL(cfg)
	if cfg.DatabaseURL == "" {
		if _, err := os.Stat(where); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--data: there is no database %s: name the data folder of a server", where)
		} else if err != nil {
			return fmt.Errorf("--data: %w", err)
		}
	}
	found, err := core.HasBooks(ctx, where)
	switch {
	case err != nil:
		return err
	case !found && cfg.DatabaseURL != "":
		return errors.New("--database-url: there are no books in this database: name the one of a server")
	case !found:
		return fmt.Errorf("--data: there are no books in %s: name the data folder of a server", where)
	}
	return nil
}

// auditNetwork is the chain of the settings. The development chain has one process: that of a running server, or this one.
func auditNetwork(ctx context.Context, cfg config.Config, log *slog.Logger) (*network, error) {
	if !cfg.Embedded() {
		return openNetwork(ctx, cfg, log)
	}
	if answers(ctx, cfg.DevRPC) {
		running, err := openChain(ctx, cfg, []string{"http://" + cfg.DevRPC}, log)
		if err == nil {
			return &network{client: running, development: true}, nil
		}
	}
	if _, err := os.Stat(chainFolder(cfg)); err != nil {
		return nil, fmt.Errorf("--data: neither does a server run at %s nor is its development chain here: %w", cfg.DevRPC, err)
	}
	return openNetwork(ctx, cfg, log)
}

// answers reports whether anybody listens at an address.
func answers(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: headerTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func chainFolder(cfg config.Config) string { return filepath.Join(cfg.Data, "chain") }
