package ws_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/99designs/gqlgen/graphql/handler/lru"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/ast"

	"bursar/graph/ws"
)

const subscribers = 1000

// clientsOf in the environment turns the test program into the clients of BenchmarkFanOut.
const clientsOf = "WS_BENCH_CLIENTS_OF"

func TestMain(m *testing.M) {
	if url := os.Getenv(clientsOf); url != "" {
		subscribeMany(url)
		return
	}
	os.Exit(m.Run())
}

// BenchmarkFanOut publishes one event to 1,000 subscribers and waits until each has read it. The clients live in
// another process, so that the bytes and goroutines reported are the server's alone.
func BenchmarkFanOut(b *testing.B) {
	s := serve(b, nil)
	s.gql.SetQueryCache(lru.New[*ast.QueryDocument](100))
	s.ready(b).Close() // what is made once
	bytesBefore, goroutinesBefore := cost()

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientsOf+"="+s.url())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	eventually(b, "all have subscribed", func() bool { return s.api.Feeds() == subscribers })

	rounds := bufio.NewReader(out)
	publish := func() {
		s.api.Publish(1)
		if _, err := rounds.ReadByte(); err != nil {
			b.Fatal(err)
		}
	}
	publish()
	bytesAfter, goroutinesAfter := cost()
	for b.Loop() {
		publish()
	}
	b.ReportMetric(float64(bytesAfter-bytesBefore)/subscribers, "B/subscriber")
	b.ReportMetric(float64(goroutinesAfter-goroutinesBefore)/subscribers, "goroutines/subscriber")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/subscribers, "ns/event")
}

// cost is the memory in use, stacks included, and the goroutines.
func cost() (bytes uint64, goroutines int) {
	for range 8 { // a stack that is too large is halved with each collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse, runtime.NumGoroutine()
}

// subscribeMany is the other process: it writes one byte each time when every subscriber has read an event.
func subscribeMany(url string) {
	next := make(chan struct{}, subscribers)
	d := websocket.Dialer{Subprotocols: []string{ws.Subprotocol}}
	for range subscribers {
		c, _, err := d.Dial(url, nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for _, m := range []string{hello, count} {
			_ = c.WriteMessage(websocket.TextMessage, []byte(m))
			if m == hello {
				_, _, _ = c.ReadMessage()
			}
		}
		go func() {
			for {
				if _, b, err := c.ReadMessage(); err != nil {
					os.Exit(0)
				} else if string(b) == `{"type":"ping"}` {
					continue
				}
				next <- struct{}{}
			}
		}()
	}
	for {
		for range subscribers {
			<-next
		}
		fmt.Print(".")
	}
}
