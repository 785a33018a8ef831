// Package config is the operator's whole interface: every setting in one struct, each with its unit, its
// default and why one would change it. The environment is read here and nowhere else.
package config

import (
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"bursar/evm"
	"bursar/money"
)

// Config is every setting. With none given the program runs by itself: an SQLite file, the embedded
// development chain and the demo service, all in one data folder.
type Config struct {
	Listen  string `default:"127.0.0.1:8080" env:"BURSAR_LISTEN" help:"Address of the API, host:port."`
	Metrics string `name:"metrics" env:"BURSAR_METRICS_LISTEN" placeholder:"127.0.0.1:9090" help:"Address of GET /metrics for Prometheus, host:port. Default: none. Whoever reaches it sees the figures of all organisations together; keep it off the internet."`
	Data    string `default:"./data" env:"BURSAR_DATA" help:"Folder of everything that is kept on this machine: the SQLite file, the development chain, generated secrets."`

	DatabaseURL string `env:"BURSAR_DATABASE_URL" placeholder:"postgres://…" help:"PostgreSQL to use. Default: an SQLite file in the data folder, for one process."`

	RPCURLs       []string      `name:"rpc-url" env:"BURSAR_RPC_URL" placeholder:"https://…" help:"RPC URLs of the chain, in order of preference, separated by commas. Default: the embedded development chain."`
	ChainID       uint64        `env:"BURSAR_CHAIN_ID" placeholder:"8453" help:"Chain id of --rpc-url: 8453 (Base), 84532 (Base Sepolia), or 845321337 for the development chain of another process on this machine. Required with it."`
	Confirmations int64         `default:"-1" env:"BURSAR_CONFIRMATIONS" help:"Blocks on top of a log before it counts. Default: 5 on Base, 0 on the development chain. Fewer credit sooner and risk more."`
	PollInterval  time.Duration `default:"0s" env:"BURSAR_POLL_INTERVAL" help:"How often the chain is read. Default: 2s, and 250ms on the development chain."`
	DevRPC        string        `default:"127.0.0.1:8545" env:"BURSAR_DEV_RPC" help:"Address of the development chain's own JSON-RPC, host:port on loopback."`

	DevMaxAhead time.Duration `default:"2s" env:"BURSAR_DEV_MAX_AHEAD" help:"How far the development chain's clock may run ahead of the wall clock in a burst; a block takes a whole second of it. Raise it for load tests."`

	MasterKey   string `env:"BURSAR_MASTER_KEY" placeholder:"hex" help:"32 bytes that seal the wallets' keys. Default: generated in the data folder; required with PostgreSQL or --rpc-url. Whoever has it and the database has the money."`
	JWTSecret   string `env:"BURSAR_JWT_SECRET" placeholder:"hex" help:"At least 32 bytes that sign logins. Generated or required like the master key."`
	PlatformKey string `env:"BURSAR_PLATFORM_KEY" placeholder:"hex" help:"Private key of the address that holds the sessions' deposits and pays for session calls. Generated or required like the master key."`
	RelayerKey  string `env:"BURSAR_RELAYER_KEY" placeholder:"hex" help:"Private key of the address that pays gas; it needs ether and no USDC. Generated or required like the master key."`

	MoreRelayers []string `name:"more-relayer-keys" env:"BURSAR_MORE_RELAYER_KEYS" placeholder:"hex" help:"Private keys of more addresses that pay gas, separated by commas: each sends by itself, so that several processes send at once and what is stuck at one holds up nobody else. Default: none."`

	GasGrantWei  string   `default:"30000000000000" env:"BURSAR_GAS_GRANT_WEI" help:"Ether given to a wallet at its first funding, in wei. 0 gives none."`
	MaxPayment   string   `default:"100.00" env:"BURSAR_MAX_PAYMENT" help:"No single call may cost more, whatever its policy says, in USD."`
	PayAhead     bool     `default:"true" negatable:"" env:"BURSAR_PAY_AHEAD" help:"Pay a service that has asked the same for a while with the first request, which saves asking again. One that asks something else then ends the call, and what was promised to it stays reserved for minutes."`
	Permit2      string   `name:"permit2-reserve" default:"100.00" env:"BURSAR_PERMIT2_RESERVE" help:"Services that are paid through Permit2 need an allowance for that contract, of the agent's wallet or of the platform's, which holds the sessions' deposits. It covers what is promised and this much more, in USD; a relayer pays for each renewal. 0 pays nothing through Permit2."`
	LeastPayout  string   `name:"payout-least" default:"1.00" env:"BURSAR_PAYOUT_LEAST" help:"What sessions have paid a business of the catalogue is sent to its wallet once it is this much, in USD: a relayer pays for each transfer. 0 sends everything at once."`
	AllowPrivate []string `env:"BURSAR_ALLOW_PRIVATE_TARGETS" placeholder:"ip:port" help:"Private addresses that agents may call all the same, ip:port separated by commas; port 0 means every port. Default: none but the demo service."`

	PayoutWait time.Duration `default:"24h" env:"BURSAR_PAYOUT_WAIT" help:"What a business is owed is sent by then, however little it is. 0 sends everything at once, whatever --payout-least says."`

	Services string `name:"services" env:"BURSAR_SERVICES" placeholder:"file.json" help:"JSON list of the services that bill by use and are yours: docs/operations.md. They are put into the catalogue at each start, by their slug; one that is left out cannot be called any more. Default: none but the demo's."`

	StreamBytes int64         `default:"1073741824" env:"BURSAR_STREAM_BYTES" help:"Most bytes of an answer that is handed on as it comes."`
	StreamTime  time.Duration `default:"10m" env:"BURSAR_STREAM_TIME" help:"How long such an answer may take from its beginning to its end."`
	StreamIdle  time.Duration `default:"1m" env:"BURSAR_STREAM_IDLE" help:"How long a service may be silent in the middle of such an answer. Raise it for models that think before they speak."`

	Demo     string `default:"auto" enum:"auto,on,off" env:"BURSAR_DEMO" help:"The demo service and the demo user: on, off, or auto (on with the development chain only)."`
	DemoAddr string `default:"127.0.0.1:8402" env:"BURSAR_DEMO_LISTEN" help:"Address of the demo service, host:port."`
	GraphiQL string `default:"auto" enum:"auto,on,off" env:"BURSAR_GRAPHIQL" help:"The GraphQL page at /graphiql: on, off, or auto (on with the development chain only)."`

	RatePerKey int `default:"300" env:"BURSAR_RATE_PER_KEY" help:"Requests a minute for each credential. 0 means no limit."`
	RatePerIP  int `default:"20" env:"BURSAR_RATE_PER_IP" help:"Requests a minute for each client address on /auth/*. 0 means no limit."`

	CallsPerKey int    `default:"1000" env:"BURSAR_CALLS_PER_KEY" help:"Paid calls that each credential may have under way at once in a process, with the answers on their way. Each holds a connection, and up to 10 MiB of an answer that is read whole. 0 means no limit."`
	LogLevel    string `default:"info" enum:"debug,info,warn,error" env:"BURSAR_LOG_LEVEL" help:"Least level that is logged: debug, info, warn or error."`

	Command string `kong:"-"` // "serve", "audit" or "fund"

	FundAddress string `kong:"-"` // what "fund" is told
	FundAmount  string `kong:"-"`
}

// commands are what the program can be told to do; serve needs no word.
type commands struct {
	Config

	Serve struct{} `cmd:"" default:"1" help:"Run the server (the default)."`
	Audit struct{} `cmd:"" help:"Prove the books against themselves and the chain, print the outcome, and exit; status 1 when they differ. Use it with a server's own settings, beside it or alone."`
	Fund  struct {
		Address string `arg:"" help:"Where to: 0x and 40 hex digits, as of an agent's wallet."`
		Amount  string `arg:"" help:"How much, in USD: 5 or 0.25."`
	} `cmd:"" help:"Make test USDC at an address of the development chain, print the transaction, and exit. The server that runs the chain must be up."`
}

// ErrHelp says that help was asked for and printed.
var ErrHelp = errors.New("config: help was printed")

// Load reads flags and the environment. An error names the setting that is wrong.
func Load(args []string, out io.Writer) (Config, error) {
	var c commands
	helped := false
	parser, err := kong.New(&c, kong.Name("bursar"), kong.Description(about), kong.Writers(out, out),
		kong.Exit(func(int) { helped = true }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	ctx, err := parser.Parse(args)
	if helped {
		return Config{}, ErrHelp
	}
	if err != nil {
		return Config{}, err
	}
	c.Command, _, _ = strings.Cut(ctx.Command(), " ")
	c.FundAddress, c.FundAmount = c.Fund.Address, c.Fund.Amount
	return c.Config, c.validate()
}

const about = "Wallets with a budget for AI agents, and a payer for any paid API. Every setting is a flag or an environment variable; with none the program runs by itself."

// Embedded reports whether the development chain is used.
func (c Config) Embedded() bool { return len(c.RPCURLs) == 0 }

// DemoOn reports whether the demo runs.
func (c Config) DemoOn() bool { return c.Demo == "on" || (c.Demo == "auto" && c.Embedded()) }

// GraphiQLOn reports whether the GraphQL page is served.
func (c Config) GraphiQLOn() bool {
	return c.GraphiQL == "on" || (c.GraphiQL == "auto" && c.Embedded())
}

// Poll is how often the chain is read.
func (c Config) Poll() time.Duration {
	switch {
	case c.PollInterval > 0:
		return c.PollInterval
	case c.Embedded():
		return 250 * time.Millisecond
	}
	return 2 * time.Second
}

// Network is the chain that the settings name.
func (c Config) Network() evm.Network {
	id := c.ChainID
	if c.Embedded() && id == 0 {
		id = evm.DevID
	}
	n, _ := evm.NetworkByID(id)
	if c.Confirmations >= 0 {
		n.Confirmations = uint64(c.Confirmations)
	} else if c.Embedded() {
		n.Confirmations = 0
	}
	return n
}

// Ceiling is MaxPayment in atomic units.
func (c Config) Ceiling() money.USDC {
	v, _ := money.ParseDecimal(c.MaxPayment) // validate has read it
	return v
}

// Permit2Reserve is Permit2 in atomic units.
func (c Config) Permit2Reserve() money.USDC {
	v, _ := money.ParseDecimal(c.Permit2) // validate has read it
	return v
}

// PayoutLeast is LeastPayout in atomic units.
func (c Config) PayoutLeast() money.USDC {
	v, _ := money.ParseDecimal(c.LeastPayout) // validate has read it
	return v
}

// GasGrant is GasGrantWei as a number.
func (c Config) GasGrant() *big.Int {
	v, _ := new(big.Int).SetString(c.GasGrantWei, 10) // validate has read it
	return v
}

// NeedsSecrets reports whether secrets must be given: generated ones would differ from process to process, or
// guard real money by a file that nobody has backed up.
func (c Config) NeedsSecrets() bool { return c.DatabaseURL != "" || !c.Embedded() }

func (c Config) validate() error {
	addresses := map[string]string{"--listen": c.Listen, "--dev-rpc": c.DevRPC, "--demo-addr": c.DemoAddr}
	if c.Metrics != "" {
		addresses["--metrics"] = c.Metrics
	}
	for name, addr := range addresses {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("%s: %q is not host:port", name, addr)
		}
	}
	if err := c.validateChain(); err != nil {
		return err
	}
	if v, ok := new(big.Int).SetString(c.GasGrantWei, 10); !ok || v.Sign() < 0 {
		return fmt.Errorf("--gas-grant-wei: %q is not an amount of wei", c.GasGrantWei)
	}
	if v, err := money.ParseDecimal(c.MaxPayment); err != nil || v == 0 {
		return fmt.Errorf("--max-payment: %q is not a positive amount in USD", c.MaxPayment)
	}
	if _, err := money.ParseDecimal(c.Permit2); err != nil {
		return fmt.Errorf("--permit2-reserve: %q is not an amount in USD", c.Permit2)
	}
	if _, err := money.ParseDecimal(c.LeastPayout); err != nil {
		return fmt.Errorf("--payout-least: %q is not an amount in USD", c.LeastPayout)
	}
	if c.DatabaseURL != "" && !strings.HasPrefix(c.DatabaseURL, "postgres://") && !strings.HasPrefix(c.DatabaseURL, "postgresql://") {
		return errors.New("--database-url: must begin with postgres://")
	}
	return c.validateNumbers()
}

func (c Config) validateNumbers() error {
	for _, n := range []struct {
		name  string
		value int64
		least int64
	}{
		{"--confirmations", c.Confirmations, -1}, // which is the network's own
		{"--rate-per-key", int64(c.RatePerKey), 0},
		{"--rate-per-ip", int64(c.RatePerIP), 0},
		{"--calls-per-key", int64(c.CallsPerKey), 0},
		{"--dev-max-ahead", int64(c.DevMaxAhead), 0},
		{"--poll-interval", int64(c.PollInterval), 0},
		{"--payout-wait", int64(c.PayoutWait), 0},
		{"--stream-bytes", c.StreamBytes, 1},
		{"--stream-time", int64(c.StreamTime), 1},
		{"--stream-idle", int64(c.StreamIdle), 1},
	} {
		switch {
		case n.value >= n.least:
		case n.least > 0:
			return fmt.Errorf("%s: must be positive", n.name)
		default:
			return fmt.Errorf("%s: must not be negative", n.name)
		}
	}
	return nil
}

func (c Config) validateChain() error {
	if c.Embedded() {
		if host, _, _ := net.SplitHostPort(c.DevRPC); !loopback(host) {
			return fmt.Errorf("--dev-rpc: %q is not a loopback address: whoever reaches the development chain owns it", c.DevRPC)
		}
		if c.ChainID != 0 && c.ChainID != evm.DevID && c.ChainID != evm.BaseSepoliaID {
			return fmt.Errorf("--chain-id: the development chain cannot be %d; use --rpc-url for a real chain", c.ChainID)
		}
		return nil
	}
	if _, ok := evm.NetworkByID(c.ChainID); !ok {
		return fmt.Errorf("--chain-id: %d is not a known chain; with --rpc-url it must be 8453, 84532 or, on this machine, 845321337", c.ChainID)
	}
	for _, raw := range c.RPCURLs {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ws" && u.Scheme != "wss") {
			return errors.New("--rpc-url: every URL must be http(s):// or ws(s)://")
		}
		if c.ChainID == evm.DevID && !loopback(u.Hostname()) {
			return fmt.Errorf("--chain-id: the development chain of another process (%d) must be on this machine, not at %s", evm.DevID, u.Host)
		}
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
