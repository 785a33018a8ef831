package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bursar/graph/ws"
)

// line is what e2e/subscriber.mjs prints.
type line struct {
	Event   string
	Name    string
	Code    int
	Reason  string
	Payload json.RawMessage
}

// TestOfficialClient runs graphql-ws, the reference client, against the transport.
func TestOfficialClient(t *testing.T) {
	e2e, err := filepath.Abs("../../e2e")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(e2e, "node_modules", "graphql-ws")); err != nil {
		t.Fatal("run npm ci in e2e: ", err)
	}
	node := func(s *server, token, queries string) (lines []line, code int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "node", "subscriber.mjs")
		cmd.Dir = e2e
		cmd.Env = append(os.Environ(), "WS_URL="+s.url(), "TOKEN="+token, "QUERIES="+queries)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(out)) {
			var parsed line
			if err := json.Unmarshal([]byte(l), &parsed); err != nil {
				t.Fatalf("%s: %v", l, err)
			}
			lines = append(lines, parsed)
		}
		return lines, cmd.ProcessState.ExitCode()
	}
	s := serve(t, &ws.Transport{
		InitFunc: func(ctx context.Context, _ *http.Request, payload map[string]any) (context.Context, any, time.Time, error) {
			switch payload["Authorization"] {
			case "Bearer good":
				return ctx, map[string]string{"hi": "there"}, time.Time{}, nil
			case "Bearer short":
				return ctx, nil, time.Now().Add(500 * time.Millisecond), nil
			}
			return nil, nil, time.Time{}, errors.New("secret")
		},
	})
	of := func(lines []line, name string) (events string) {
		for _, l := range lines {
			if l.Name == name && l.Event != "closed" && l.Event != "connected" {
				events += l.Event + string(l.Payload) + " "
			}
		}
		return events
	}

	lines, code := node(s, "good", `[
		{"name":"query","query":"query Q($n:String!){hello(name:$n)}","variables":{"n":"you"}},
		{"name":"three","query":"subscription{count(to:3)}"},
		{"name":"two","query":"subscription{count(to:1000000)}","take":2},
		{"name":"fails","query":"subscription{fails}"},
		{"name":"invalid","query":"{nothing}"}]`)
	if code != 1 || len(lines) == 0 || lines[0].Event != "connected" || string(lines[0].Payload) != `{"hi":"there"}` {
		t.Errorf("exit %d, %+v", code, lines)
	}
	for name, want := range map[string]string{
		"query": `next{"data":{"hello":"hello you"}} complete `,
		"three": `next{"data":{"count":1}} next{"data":{"count":2}} next{"data":{"count":3}} complete `,
		"two":   `next{"data":{"count":1}} next{"data":{"count":2}} complete `,
		"fails": `next{"data":{"fails":1}} ` +
			`error[{"message":"fell behind","extensions":{"code":"SUBSCRIPTION_OVERFLOW"}}] `,
	} {
		if got := of(lines, name); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	if got := of(lines, "invalid"); !strings.HasPrefix(got, `error[{"message":"Cannot query field`) {
		t.Errorf("invalid: %s", got)
	}

	closedWith := func(token string, code int, reason string) {
		t.Helper()
		lines, exit := node(s, token, `["subscription{feed}"]`)
		for _, l := range lines {
			if l.Event == "closed" && l.Code == code && l.Reason == reason && exit == 1 {
				return
			}
		}
		t.Errorf("exit %d, %+v, want a close with %d %s", exit, lines, code, reason)
	}
	closedWith("bad", 4403, "Forbidden")
	closedWith("short", 4403, "Token expired")

	go func() {
		eventually(t, "the feed runs", func() bool { return s.api.Feeds() == 1 })
		_ = s.Shutdown(context.Background())
	}()
	closedWith("good", 1001, "Server is shutting down")
}
