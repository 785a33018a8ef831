package demo

import (
	"encoding/json"
	"hash/fnv"
	"net/http"
	"time"
)

// What is sold is invented, and the same for everybody on one day.

type forecast struct {
	City    string `json:"city"`
	Day     string `json:"day"`
	Sky     string `json:"sky"`
	Celsius int    `json:"celsius"`
}

const (
	maxCity     = 60 // bytes of a city's name that are repeated
	defaultCity = "Lisbon"
	week        = 7
)

func weatherOf(city string, day time.Time) forecast {
	skies := []string{"clear", "cloudy", "rain", "wind", "fog", "snow"}
	if city == "" {
		city = defaultCity
	}
	f := forecast{City: city[:min(len(city), maxCity)], Day: day.UTC().Format(time.DateOnly)}
	n := number(f.City + f.Day)
	f.Sky, f.Celsius = skies[n%uint32(len(skies))], int(n/8%40)-5
	return f
}

func number(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}

func weather(r *http.Request, now time.Time) any { return weatherOf(r.URL.Query().Get("city"), now) }

func premium(r *http.Request, now time.Time) any {
	days := make([]forecast, 0, week)
	for i := range week {
		days = append(days, weatherOf(r.URL.Query().Get("city"), now.AddDate(0, 0, i)))
	}
	return map[string]any{"days": days}
}

func joke(_ *http.Request, now time.Time) any {
	jokes := []string{
		"I would tell you a joke about UDP, but you might not get it.",
		"There are 10 kinds of people: those who read binary and those who do not.",
		"A payment walks into a bar. And again. The bar had no idempotency key.",
		"Why was the agent broke? It retried on every 402.",
	}
	return map[string]any{"joke": jokes[number(now.UTC().Format(time.TimeOnly))%uint32(len(jokes))]}
}

func free(*http.Request, time.Time) any { return map[string]any{"hello": "this one is free"} }

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b) + "\n", err
}
