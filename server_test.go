package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childVariable makes the test binary be the program, so that a test can kill it.
const childVariable = "BURSAR_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, killer(os.Getenv(killVariable))); err != nil {
		fmt.Fprintln(os.Stderr, "bursar:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// program is the real program in a process of its own.
type program struct {
	t              testing.TB
	args           []string
	Data           string
	API, Demo, RPC string // base URLs
	Key, Token     string // of the demo user
	cmd            *exec.Cmd
	ended          chan struct{} // closed when the process has ended
	out            *output
}

// output gathers what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// freePort finds a port below the ephemeral range, where a reconnecting client of a killed server could sit.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := 10000 + int(time.Now().UnixNano()/1000)%20000
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = l.Close()
			return fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
	t.Fatal("no free port")
	return ""
}

// newProgram prepares a program on free ports and a data folder of its own, not yet started.
func newProgram(t testing.TB, args ...string) *program {
	t.Helper()
	api, demo, rpc := freePort(t), freePort(t), freePort(t)
	p := &program{t: t, Data: filepath.Join(t.TempDir(), "data"), API: "http://" + api, Demo: "http://" + demo, RPC: "http://" + rpc}
	p.args = append([]string{
		"--listen=" + api, "--demo-addr=" + demo, "--dev-rpc=" + rpc, "--data=" + p.Data, "--rate-per-key=0", "--rate-per-ip=0",
	}, args...)
	t.Cleanup(p.kill)
	return p
}

func start(t testing.TB, args ...string) *program {
	t.Helper()
	p := newProgram(t, args...)
	p.start()
	return p
}

// start runs the program until it listens, and reads the demo user's credentials if it has made one.
func (p *program) start() {
	p.t.Helper()
	p.launch()
	if !p.listening() {
		p.t.Fatalf("the program ended:\n%s", p.out)
	}
	file, err := os.ReadFile(filepath.Join(p.Data, "secrets", "demo.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		p.t.Fatal(err)
	}
	var keys struct {
		Key   string `json:"api_key"`
		Token string `json:"agnic_token"`
	}
	if err := json.Unmarshal(file, &keys); err != nil {
		p.t.Fatal(err)
	}
	p.Key, p.Token = keys.Key, keys.Token
}

// launch starts the process and does not wait for it.
func (p *program) launch(env ...string) {
	p.t.Helper()
	p.out, p.ended = &output{}, make(chan struct{})
	p.cmd = exec.Command(os.Args[0], p.args...)
	p.cmd.Env = append(append(os.Environ(), childVariable+"=1"), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // how it ended is for those who wait to judge
		close(ended)
	}(p.cmd, p.ended)
}

// listening waits until the program answers requests, and reports whether it does; if not, it has ended.
func (p *program) listening() bool {
	p.t.Helper()
	deadline := time.After(60 * time.Second)
	for !strings.Contains(p.out.String(), "msg=listening") {
		select {
		case <-p.ended:
			return false
		case <-deadline:
			p.t.Fatalf("the program does not start:\n%s", p.out)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}

// kill ends the program as kill -9 does.
func (p *program) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
	p.cmd = nil
}

// audit runs the program's own audit beside it, or alone, and fails the test when the books differ.
func (p *program) audit() string {
	p.t.Helper()
	out, err := p.command(append([]string{"audit"}, p.args...)...)
	if err != nil || !strings.Contains(out, "the books balance") {
		p.t.Errorf("audit: %v\n%s", err, out)
	}
	return out
}

// command runs the program until it ends, and returns all that it said.
func (p *program) command(args ...string) (string, error) {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// call makes a JSON request with the demo user's key and returns the status and the decoded answer.
func (p *program) call(method, path string, body any, headers ...string) (int, map[string]any, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, p.API+path, in)
	if err != nil {
		return 0, nil, err
	}
	if p.Key != "" {
		req.Header.Set("X-API-Key", p.Key)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	d.UseNumber()
	var out map[string]any
	if err := d.Decode(&out); err != nil {
		return resp.StatusCode, nil, err
	}
	return resp.StatusCode, out, nil
}

// must is call for what has to succeed.
func (p *program) must(method, path string, body any, headers ...string) map[string]any {
	p.t.Helper()
	status, out, err := p.call(method, path, body, headers...)
	if err != nil || status >= 300 {
		p.t.Fatalf("%s %s: %d %v %v", method, path, status, out, err)
	}
	return out
}

// at walks into a decoded answer.
func at(v any, path ...string) any {
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func text(v any, path ...string) string { return fmt.Sprint(at(v, path...)) }

func (p *program) agentID() string {
	p.t.Helper()
	agents, ok := at(p.must("GET", "/agents", nil), "agents").([]any)
	if !ok || len(agents) == 0 {
		p.t.Fatal("no agents")
	}
	return text(agents[0], "id")
}

// eventually waits for a condition that background work brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 600 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("never: %s", what)
}
