package config_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"bursar/config"
	"bursar/evm"
	"bursar/money"
)

func TestDefaults(t *testing.T) {
	c, err := config.Load(nil, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Embedded() || !c.DemoOn() || !c.GraphiQLOn() || c.NeedsSecrets() || c.Network().ChainID != evm.DevID || c.Ceiling() != 100*money.One {
		t.Errorf("%+v", c)
	}
}

// A real chain or a shared database turns the demo off and makes secrets mandatory.
func TestProduction(t *testing.T) {
	c, err := config.Load([]string{"--rpc-url=https://a.example,https://b.example", "--chain-id=8453"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Embedded() || c.DemoOn() || c.GraphiQLOn() || len(c.RPCURLs) != 2 || c.Network().Name != "base" || c.Network().Confirmations == 0 {
		t.Errorf("%+v", c)
	}
	if _, err := c.Secrets(); err == nil || !strings.Contains(err.Error(), "BURSAR_MASTER_KEY") || !strings.Contains(err.Error(), "openssl rand") {
		t.Errorf("a missing secret: %v", err)
	}
}

func TestMetricsAreOffUnlessAsked(t *testing.T) {
	if c, err := config.Load(nil, &bytes.Buffer{}); err != nil || c.Metrics != "" {
		t.Errorf("%q %v", c.Metrics, err)
	}
	if _, err := config.Load([]string{"--metrics=9090"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--metrics") {
		t.Errorf("a bad address: %v", err)
	}
}

func TestStreamsHaveLimits(t *testing.T) {
	if c, err := config.Load([]string{"--stream-idle=5m"}, &bytes.Buffer{}); err != nil || c.StreamIdle != 5*time.Minute || c.StreamBytes != 1<<30 || c.StreamTime != 10*time.Minute {
		t.Errorf("%+v %v", c, err)
	}
	for _, bad := range []string{"--stream-bytes=0", "--stream-time=-1s", "--stream-idle=0"} {
		if _, err := config.Load([]string{bad}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--stream") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestPayouts(t *testing.T) {
	if c, err := config.Load(nil, &bytes.Buffer{}); err != nil || c.PayoutLeast() != money.One || c.PayoutWait != 24*time.Hour {
		t.Errorf("%+v %v", c, err)
	}
	if c, err := config.Load([]string{"--payout-least=0", "--payout-wait=0"}, &bytes.Buffer{}); err != nil || c.PayoutLeast() != 0 || c.PayoutWait != 0 {
		t.Errorf("%+v %v", c, err)
	}
	for _, bad := range []string{"--payout-least=-1", "--payout-least=a dollar", "--payout-wait=-1s"} {
		if _, err := config.Load([]string{bad}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--payout") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// The one setting that is wrong is named, and no other.
func TestNegativeNumbers(t *testing.T) {
	for _, bad := range []string{
		"--confirmations=-5", "--dev-max-ahead=-1s", "--poll-interval=-1s", "--payout-wait=-1s", "--rate-per-key=-1", "--rate-per-ip=-1", "--calls-per-key=-1",
		"--stream-bytes=-1", "--stream-time=-1s", "--stream-idle=-1s",
	} {
		name, _, _ := strings.Cut(bad, "=")
		_, err := config.Load([]string{bad}, &bytes.Buffer{})
		if err == nil || !strings.HasPrefix(err.Error(), name+": ") || strings.Count(err.Error(), "--") != 1 {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// An audit reads the secrets and makes none.
func TestAuditMakesNoSecrets(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	c, err := config.Load([]string{"audit", "--data=" + data}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Secrets(); err == nil || !strings.Contains(err.Error(), "master-key") {
		t.Errorf("no secrets: %v", err)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the data folder: %v", err)
	}
	serve, err := config.Load([]string{"--data=" + data}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := serve.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	if read, err := c.Secrets(); err != nil || !bytes.Equal(read.MasterKey, made.MasterKey) {
		t.Errorf("the server's secrets: %v", err)
	}
}

func TestEveryFieldIsExplained(t *testing.T) {
	var help bytes.Buffer
	if _, err := config.Load([]string{"--help"}, &help); !errors.Is(err, config.ErrHelp) {
		t.Fatal(err)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		if f.Tag.Get("kong") == "-" {
			continue
		}
		env := f.Tag.Get("env")
		if f.Tag.Get("help") == "" || !strings.HasPrefix(env, "BURSAR_") || !strings.Contains(help.String(), env) {
			t.Errorf("%s: help %q, env %q", f.Name, f.Tag.Get("help"), env)
		}
	}
}

func TestSecretsAreKept(t *testing.T) {
	c, err := config.Load([]string{"--data=" + filepath.Join(t.TempDir(), "data")}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Secrets()
	if err != nil || !bytes.Equal(first.MasterKey, second.MasterKey) || !first.PlatformKey.Equal(second.PlatformKey) || first.PlatformKey.Equal(first.RelayerKey) {
		t.Errorf("secrets change: %v", err)
	}
	path := filepath.Join(c.Data, "secrets", "master-key")
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Secrets(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged secret: %v", err)
	}
}

// Processes on one machine may share the development chain that one of them runs; nobody else may.
func TestSharedDevelopmentChain(t *testing.T) {
	c, err := config.Load([]string{"--rpc-url=http://127.0.0.1:8545", "--chain-id=845321337"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Embedded() || c.DemoOn() || c.GraphiQLOn() || !c.NeedsSecrets() || c.Network().ChainID != evm.DevID || c.Network().Confirmations != 0 {
		t.Errorf("%+v", c)
	}
	for _, url := range []string{"http://10.0.0.1:8545", "https://rpc.example"} {
		if _, err := config.Load([]string{"--rpc-url=" + url, "--chain-id=845321337"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--chain-id") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
