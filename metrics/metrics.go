// Package metrics is a door for the operator's instruments: it tells Prometheus how the server does, in figures over all
// organisations. They are business figures, so they have a listener of their own (--metrics) and never share the API's.
package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bursar/core"
)

const (
	gatherTime = 5 * time.Second // for the figures of one scrape; what is not there by then is left out
	maxScrapes = 2               // at once; others are told to come back
)

// Options is what the door takes from server.go.
type Options struct {
	Log *slog.Logger
	// NodeFailures counts, by host, the requests that a node of the chain has left without a usable answer; nil: unknown.
	NodeFailures func() map[string]uint64
}

// Door counts requests, and answers scrapes.
type Door struct {
	app      *core.Core
	options  Options
	own      *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	slots    chan struct{}
}

// New makes the door.
func New(app *core.Core, o Options) *Door {
	d := &Door{
		app: app, options: o, own: prometheus.NewRegistry(), slots: make(chan struct{}, maxScrapes),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bursar_http_requests_total", Help: "Answered requests by route pattern and status.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bursar_http_request_duration_seconds", Help: "From a request to the end of its answer, by route pattern; a fetch includes the paid service.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route"}),
	}
	d.own.MustRegister(d.requests, d.duration, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return d
}

// Observe counts one answered request. route is the pattern that took it, never the path; empty when none did.
func (d *Door) Observe(route string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	d.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	d.duration.WithLabelValues(route).Observe(took.Seconds())
}

// Handler serves GET /metrics.
func (d *Door) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", d.scrape)
	return mux
}

func (d *Door) scrape(w http.ResponseWriter, r *http.Request) {
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	default:
		http.Error(w, "two scrapes are under way", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), gatherTime)
	defer cancel()
	f := d.app.Figures(ctx)
	for source, err := range map[string]error{"database": f.Database, "chain": f.Chain} {
		if err != nil {
			d.options.Log.WarnContext(r.Context(), "figures are incomplete", "source", source, "error", err)
		}
	}
	now := prometheus.NewRegistry()
	now.MustRegister(figures{f, d.options.NodeFailures})
	promhttp.HandlerFor(prometheus.Gatherers{d.own, now}, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(d.options.Log.Handler(), slog.LevelError), ErrorHandling: promhttp.HTTPErrorOnError,
	}).ServeHTTP(w, r)
}
