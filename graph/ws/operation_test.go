package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"bursar/graph/ws"
)

func TestOperations(t *testing.T) {
	s := serve(t, nil)
	s.gql.AroundOperations(func(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
		switch graphql.GetOperationContext(ctx).OperationName {
		case "Refused": // an interceptor that forgets graphql.OneShot answers for ever
			return func(ctx context.Context) *graphql.Response { return graphql.ErrorResponse(ctx, "not today") }
		case "Panics":
			panic("an interceptor's secret")
		}
		return next(ctx)
	})
	s.gql.AroundResponses(func(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
		if graphql.GetOperationContext(ctx).OperationName == "PanicsLate" {
			panic("another secret")
		}
		return next(ctx)
	})
	const done = `{"id":"a","type":"complete"}`
	next := func(payload string) string { return `{"id":"a","type":"next","payload":` + payload + `}` }
	failed := func(errs string) string { return `{"id":"a","type":"error","payload":` + errs + `}` }
	for _, tc := range []struct {
		name    string
		payload string
		want    []string
	}{
		{"query", `{"query":"{hello}"}`, []string{next(`{"data":{"hello":"hello world"}}`), done}},
		{"variables", `{"query":"query Q($n:String!){hello(name:$n)}","variables":{"n":"you"}}`, []string{
			next(`{"data":{"hello":"hello you"}}`), done,
		}},
		{"whole number", `{"query":"subscription S($n:Int!){count(to:$n)}","variables":{"n":1}}`, []string{
			next(`{"data":{"count":1}}`), done,
		}},
		{"operation name", `{"query":"query A{hello} query B{b:hello}","operationName":"B","variables":null,"extensions":{}}`, []string{
			next(`{"data":{"b":"hello world"}}`), done,
		}},
		{"subscription", `{"query":"subscription{count(to:3)}"}`, []string{
			next(`{"data":{"count":1}}`), next(`{"data":{"count":2}}`), next(`{"data":{"count":3}}`), done,
		}},
		{"empty subscription", `{"query":"subscription{count(to:0)}"}`, []string{done}},
		{"field error", `{"query":"{fail}"}`, []string{
			next(`{"errors":[{"message":"failed","path":["fail"],"locations":[{"line":1,"column":2}]}],"data":{"fail":null}}`), done,
		}},
		{"parse error", `{"query":"{"}`, []string{failed(
			`[{"message":"Expected Name, found \u003cEOF\u003e","locations":[{"line":1,"column":2}],` +
				`"extensions":{"code":"GRAPHQL_PARSE_FAILED"}}]`)}},
		{"validation error", `{"query":"{nothing}"}`, []string{failed(
			`[{"message":"Cannot query field \"nothing\" on type \"Query\".","locations":[{"line":1,"column":2}],` +
				`"extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]`)}},
		{"unknown operation", `{"query":"query A{hello}","operationName":"B"}`, []string{failed(
			`[{"message":"operation B not found","extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]`)}},
		{"persisted query without cache", `{"extensions":{"persistedQuery":{"version":1}}}`, []string{failed(
			`[{"message":"no operation provided","extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]`)}},
		{"subscription refused", `{"query":"subscription{refused}"}`, []string{failed(
			`[{"message":"not yours","path":["refused"],"locations":[{"line":1,"column":14}],` +
				`"extensions":{"code":"FORBIDDEN"}}]`)}},
		{"subscription fails later", `{"query":"subscription{fails}"}`, []string{
			next(`{"data":{"fails":1}}`),
			failed(`[{"message":"fell behind","extensions":{"code":"SUBSCRIPTION_OVERFLOW"}}]`),
		}},
		{"resolver panics", `{"query":"{panics}"}`, []string{
			next(`{"errors":[{"message":"internal error","path":["panics"]}],"data":{"panics":null}}`), done,
		}},
		{"subscription panics", `{"query":"subscription{panics}"}`, []string{failed(
			`[{"message":"internal error","path":["panics"]}]`)}},
		{"interceptor answers", `{"query":"query Refused{hello}","operationName":"Refused"}`, []string{
			failed(`[{"message":"not today"}]`),
		}},
		{"interceptor panics", `{"query":"query Panics{hello}","operationName":"Panics"}`, []string{
			failed(`[{"message":"internal error"}]`),
		}},
		{"panic between events", `{"query":"subscription PanicsLate{count(to:9)}","operationName":"PanicsLate"}`, []string{
			failed(`[{"message":"internal error"}]`),
		}},
		{"panic while presenting", `{"query":"query PanicsLate{nothing}","operationName":"PanicsLate"}`, []string{
			failed(`[{"message":"internal error"}]`),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := s.ready(t)
			c.subscribe("other", "subscription{feed}")
			eventually(t, "another runs", func() bool { return s.api.Feeds() == 1 })
			c.say(`{"id":"a","type":"subscribe","payload":` + tc.payload + `}`)
			for _, w := range tc.want {
				if got := c.next(); !sameJSON(got, w) {
					t.Fatalf("heard %s\nwant  %s", got, w)
				}
			}
			c.settled()
			s.api.Publish(5) // the other one lives on
			c.hear(`{"id":"other","type":"next","payload":{"data":{"feed":5}}}`)
			_ = c.Close()
			eventually(t, "the other one ended", func() bool { return s.api.Feeds() == 0 })
		})
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

func TestComplete(t *testing.T) {
	s := serve(t, nil)
	c := s.ready(t)
	c.say(`{"id":"never","type":"complete"}`)
	c.settled()
	c.subscribe("1", "subscription{feed}")
	c.subscribe("2", "{slow}")
	eventually(t, "both run", func() bool { return s.api.Feeds() == 1 && len(s.api.Started) == 1 })
	c.say(`{"id":"1","type":"complete"}`)
	c.say(`{"id":"2","type":"complete"}`)
	eventually(t, "both ended", func() bool { return s.api.Feeds() == 0 && s.api.Ended.Load() == 1 })
	c.settled() // neither a complete nor the error of the cancelled query
	c.say(`{"id":"1","type":"complete"}`)
	c.settled()
}

// A client that completes and uses its id again at once sees nothing of the old operation after the first message of
// the new one, however much of the old was under way.
func TestReuseAfterComplete(t *testing.T) {
	s := serve(t, nil)
	c := s.ready(t)
	for range 200 {
		c.subscribe("1", "subscription{blobs(to:1000000000,bytes:1000)}")
		c.next()
		c.say(`{"id":"1","type":"complete"}`)
		c.subscribe("1", "subscription{count(to:3)}")
		c.drainTo(`{"id":"1","type":"next","payload":{"data":{"count":1}}}`)
		c.hear(
			`{"id":"1","type":"next","payload":{"data":{"count":2}}}`,
			`{"id":"1","type":"next","payload":{"data":{"count":3}}}`,
			`{"id":"1","type":"complete"}`,
		)
	}
}

// After a pong that follows a complete nothing comes for the id, though the operation was in full flow.
func TestNothingAfterComplete(t *testing.T) {
	s := serve(t, nil)
	c := s.ready(t)
	for range 50 {
		c.subscribe("1", "subscription{blobs(to:1000000000,bytes:10)}")
		c.next()
		c.say(`{"id":"1","type":"complete"}`)
		c.say(`{"type":"ping"}`)
		c.drainTo(`{"type":"pong"}`)
		c.settled()
	}
}

// The server's last message frees the id before the client can read it.
func TestReuseAfterEnd(t *testing.T) {
	s := serve(t, &ws.Transport{MaxSubscriptions: 1})
	c := s.ready(t)
	for range 2000 {
		c.subscribe("1", "{hello}")
		c.hear(`{"id":"1","type":"next","payload":{"data":{"hello":"hello world"}}}`, `{"id":"1","type":"complete"}`)
	}
}

func TestMaxSubscriptions(t *testing.T) {
	s := serve(t, &ws.Transport{MaxSubscriptions: 2})
	var seen atomic.Bool
	s.gql.SetErrorPresenter(func(ctx context.Context, err error) *gqlerror.Error {
		seen.Store(errors.Is(err, ws.ErrTooManySubscriptions))
		return graphql.DefaultErrorPresenter(ctx, err)
	})
	c := s.ready(t)
	c.subscribe("1", "subscription{feed}")
	c.subscribe("2", "subscription{feed}")
	c.subscribe("3", "subscription{feed}")
	c.hear(`{"id":"3","type":"error","payload":[{"message":"too many subscriptions on this connection",` +
		`"extensions":{"code":"TOO_MANY_SUBSCRIPTIONS"}}]}`)
	if !seen.Load() {
		t.Error("the presenter did not see the error itself")
	}
	c.say(`{"id":"1","type":"complete"}`)
	c.subscribe("3", "{hello}")
	c.hear(`{"id":"3","type":"next","payload":{"data":{"hello":"hello world"}}}`, `{"id":"3","type":"complete"}`)

	// Completing does not make room for ever when the operations do not end: pay ignores its context.
	eventually(t, "one reads and one feed runs", func() bool { return goroutines() == 2 })
	for range 3 {
		c.subscribe("p", "mutation{pay(amount:1)}")
		<-s.api.Started
		c.say(`{"id":"p","type":"complete"}`)
	}
	c.subscribe("p", "mutation{pay(amount:1)}")
	if m := c.nextMessage(); m.ID != "p" || m.Type != "error" {
		t.Errorf("a fifth runs: %+v", m)
	}
	close(s.api.Release)
}

// Messages of one subscription keep their order and come once each, whatever runs beside it.
func TestOrder(t *testing.T) {
	const subscriptions, values = 50, 200
	s := serve(t, nil)
	c := s.ready(t)
	for i := range subscriptions {
		c.subscribe(fmt.Sprint(i), fmt.Sprintf("subscription{count(to:%d)}", values))
	}
	last := map[string]int{}
	for done := 0; done < subscriptions; {
		m := c.nextMessage()
		if m.Type == "complete" {
			if last[m.ID] != values {
				t.Fatalf("%s ended at %d", m.ID, last[m.ID])
			}
			done++
			continue
		}
		var p struct{ Data struct{ Count int } }
		if err := json.Unmarshal(m.Payload, &p); err != nil || p.Data.Count != last[m.ID]+1 {
			t.Fatalf("%s: %s after %d (%v)", m.ID, m.Payload, last[m.ID], err)
		}
		last[m.ID]++
	}
}

// A query that takes its time holds up neither the connection nor another one.
func TestSlowQuery(t *testing.T) {
	s := serve(t, nil)
	c, other := s.ready(t), s.ready(t)
	c.subscribe("1", "{slow}")
	<-s.api.Started
	for _, c := range []*client{c, other} {
		c.settled()
		c.subscribe("2", "{hello}")
		c.hear(`{"id":"2","type":"next","payload":{"data":{"hello":"hello world"}}}`, `{"id":"2","type":"complete"}`)
	}
	close(s.api.Release)
	c.hear(`{"id":"1","type":"next","payload":{"data":{"slow":"done"}}}`, `{"id":"1","type":"complete"}`)
}

// A client that reads nothing is cut off after WriteTimeout, its subscriptions end, and meanwhile another connection
// is served.
func TestSlowClient(t *testing.T) {
	s := serve(t, &ws.Transport{WriteTimeout: 500 * time.Millisecond})
	stuck, fine := s.ready(t), s.ready(t)
	start := time.Now()
	stuck.subscribe("1", "subscription{blobs(to:1000000000,bytes:60000)}")
	stuck.subscribe("2", "subscription{feed}")
	eventually(t, "both run", func() bool { return s.api.Live.Load() == 2 })
	for s.Connections() == 2 {
		fine.settled()
		time.Sleep(10 * time.Millisecond)
		if time.Since(start) > patience {
			t.Fatal("a client that does not read stays for ever")
		}
	}
	if since := time.Since(start); since < 500*time.Millisecond {
		t.Errorf("cut off after %v", since)
	}
	eventually(t, "its subscriptions ended", func() bool { return s.api.Live.Load() == 0 })
	fine.settled()
}

// A client that reads slowly but steadily keeps its connection, and holds back the source: nothing piles up.
func TestBackpressure(t *testing.T) {
	s := serve(t, &ws.Transport{WriteTimeout: 2 * time.Second})
	c := s.ready(t)
	c.subscribe("1", "subscription{blobs(to:400,bytes:60000)}")
	for i := range 400 {
		if i%40 == 0 {
			time.Sleep(50 * time.Millisecond)
		}
		if m := c.nextMessage(); m.Type != "next" || !strings.Contains(string(m.Payload), "xxx") {
			t.Fatalf("%d: %s", i, m.Type)
		}
	}
	c.hear(`{"id":"1","type":"complete"}`)
}
