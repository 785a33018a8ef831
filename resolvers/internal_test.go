package resolvers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"bursar/core"
	"bursar/ent"
	"bursar/graph"
	"bursar/graph/ws"
)

// TestPresent spells every code of core; the cause of an error is logged for a server error alone and never told.
func TestPresent(t *testing.T) {
	var log bytes.Buffer
	s := &Server{log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, code := range core.Codes() {
		log.Reset()
		e := &core.Error{
			Code: code, Message: "for people", Err: errors.New("the cause"), Payment: "p1",
			Limit: &core.LimitDetail{Rule: "daily", Current: 1, Requested: 2, Max: 3},
		}
		_, err := coded(t.Context(), func(context.Context) (any, error) { return nil, errors.Join(e) })
		out, told := s.present(t.Context(), gqlerror.WrapPath(nil, err)), "for people"
		if code == core.ServerError {
			told = "Internal server error"
		}
		limit, _ := json.Marshal(out.Extensions["limit"])
		if out.Extensions["code"] != strings.ToUpper(string(code)) || out.Message != told || out.Extensions["transactionId"] != "p1" ||
			string(limit) != `{"current":"1","max":"3","requested":"2","rule":"daily"}` {
			t.Errorf("%s: %+v", code, out)
		}
		if strings.Contains(log.String(), "the cause") != (code == core.ServerError) {
			t.Errorf("%s: logged %s", code, &log)
		}
	}
	_, err := coded(t.Context(), func(context.Context) (any, error) { return nil, errors.New("dial tcp 10.0.0.1") })
	for name, err := range map[string]error{
		"no code": err, "a promise of the schema": gqlerror.Errorf("must not be null"), "a panic": s.recovered(t.Context(), "dial tcp 10.0.0.1"),
	} {
		if out := s.present(t.Context(), err); out.Message != "Internal server error" || out.Extensions["code"] != "SERVER_ERROR" {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

// behind is an API whose payments stream is the test's.
type behind struct {
	*Resolver
	news chan *ent.Transaction
}

type behindSubscription struct {
	subscription
	news chan *ent.Transaction
}

func (b behind) Subscription() graph.SubscriptionResolver {
	return behindSubscription{news: b.news}
}

func (b behindSubscription) PaymentSettled(ctx context.Context, _ *uuid.UUID) (<-chan *ent.Transaction, error) {
	return orOverflow(ctx, b.news), nil
}

// TestOverflow: core closes the stream of a reader that fell behind, and the reader is told so in place of a
// plain end.
func TestOverflow(t *testing.T) {
	me := core.Principal{UserID: uuid.New()}
	s := &Server{log: slog.New(slog.DiscardHandler), streams: core.Quota{Max: 1}}
	s.sockets = &ws.Transport{
		InitFunc: func(ctx context.Context, _ *http.Request, _ map[string]any) (context.Context, any, time.Time, error) {
			return as(ctx, me), nil, time.Time{}, nil
		},
	}
	news := make(chan *ent.Transaction)
	h := httptest.NewServer(s.handler(behind{&Resolver{}, news}))
	defer h.Close()
	d := websocket.Dialer{Subprotocols: []string{ws.Subprotocol}}
	c, _, err := d.DialContext(t.Context(), "ws"+strings.TrimPrefix(h.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := uuid.New()
	go func() {
		news <- &ent.Transaction{ID: id}
		close(news)
	}()
	for _, step := range []struct{ say, hear string }{
		{`{"type":"connection_init"}`, `{"type":"connection_ack"}`},
		{
			`{"type":"subscribe","id":"1","payload":{"query":"subscription { paymentSettled { id } }"}}`,
			`{"id":"1","type":"next","payload":{"data":{"paymentSettled":{"id":"` + id.String() + `"}}}}`,
		},
		{"", `{"id":"1","type":"error","payload":[{"message":"The subscription fell behind: read on from the history","extensions":{"code":"SUBSCRIPTION_OVERFLOW"}}]}`},
	} {
		if step.say != "" {
			if err := c.WriteMessage(websocket.TextMessage, []byte(step.say)); err != nil {
				t.Fatal(err)
			}
		}
		if _, got, err := c.ReadMessage(); err != nil || strings.TrimSpace(string(got)) != step.hear {
			t.Fatalf("heard %s %v\nwant  %s", got, err, step.hear)
		}
	}
}

// BenchmarkLimits is the price of judging an ordinary document beforehand.
func BenchmarkLimits(b *testing.B) {
	p := &graphql.RawParams{Query: `query($id: ID!) { agent(id: $id) { id name wallet { posted pending available } policy { dailyLimit } } sessions(agentId: $id) { ...s } } fragment s on Session { id status used remaining }`}
	ctx := as(b.Context(), core.Principal{UserID: uuid.New()})
	b.ReportAllocs()
	for b.Loop() {
		if err := (limits{}).MutateOperationParameters(ctx, p); err != nil {
			b.Fatal(err)
		}
	}
}
