package ws

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/99designs/gqlgen/graphql"
)

// Subprotocol is the only WebSocket sub-protocol spoken here.
const Subprotocol = "graphql-transport-ws"

// The message types of the protocol.
const (
	typeInit      = "connection_init"
	typeAck       = "connection_ack"
	typePing      = "ping"
	typePong      = "pong"
	typeSubscribe = "subscribe"
	typeNext      = "next"
	typeError     = "error"
	typeComplete  = "complete"
)

// incoming is a message of the client whose shape has been checked.
type incoming struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"`

	object map[string]any     // the payload of connection_init, ping and pong
	params *graphql.RawParams // the payload of subscribe
}

// outgoing is a message of the server. Payload is marshalled with the rest in one pass.
type outgoing struct {
	ID      string `json:"id,omitempty"`
	Type    string `json:"type"`
	Payload any    `json:"payload,omitempty"`
}

// Messages without content of their own are made once.
var (
	pingMessage = []byte(`{"type":"ping"}`)
	pongMessage = []byte(`{"type":"pong"}`)
)

// parse reads one message. A reason that is not empty says what is wrong with it: it is the text of close code
// 4400, and never quotes what was sent.
func parse(data []byte) (m *incoming, reason string) {
	m = &incoming{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, "Invalid message received"
	}
	switch m.Type {
	case typeInit, typePing, typePong:
		return m, m.parseObject()
	case typeSubscribe:
		if m.ID == "" {
			return nil, "Message is missing the 'id' property"
		}
		return m, m.parseParams()
	case typeComplete:
		if m.ID == "" {
			return nil, "Message is missing the 'id' property"
		}
		return m, ""
	case "":
		return nil, "Message is missing the 'type' property"
	default:
		return nil, "Invalid message 'type' property"
	}
}

// hasPayload says whether there is a payload; null counts as none.
func (m *incoming) hasPayload() bool {
	return len(m.Payload) > 0 && !bytes.Equal(m.Payload, []byte("null"))
}

func (m *incoming) parseObject() (reason string) {
	if !m.hasPayload() {
		m.Payload = nil
		return ""
	}
	if err := decode(m.Payload, &m.object); err != nil {
		return m.badPayload()
	}
	return ""
}

// parseParams reads the operation. A query may be absent only beside extensions: that is how a persisted query
// is named.
func (m *incoming) parseParams() (reason string) {
	if !m.hasPayload() {
		return m.badPayload()
	}
	m.params = &graphql.RawParams{}
	if err := decode(m.Payload, m.params); err != nil {
		return m.badPayload()
	}
	if m.params.Query == "" && len(m.params.Extensions) == 0 {
		return m.badPayload()
	}
	return ""
}

func (m *incoming) badPayload() string { return "Invalid 'payload' property of " + m.Type }

// decode keeps numbers as text, as gqlgen's own transports do: a float would lose the digits of an amount.
func decode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}
