package rest

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// writeTime is how long a caller may take nothing of an answer that waits for it.
const writeTime = time.Minute

// chunks are what bodies are copied through.
const chunkBytes = 32 << 10

var chunks = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// Stream answers with a body as it comes: what has come is on its way before more is waited for. length is the body's, in
// bytes; -1: not known. A body that does not come to its end is cut off for the caller as well: a clean end would make a
// part look like the whole. It closes the body, and panics with http.ErrAbortHandler to cut the connection.
func (d *Door) Stream(w http.ResponseWriter, r *http.Request, status int, body io.ReadCloser, length int64) {
	defer body.Close()
	out := http.NewResponseController(w)
	if length > 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	}
	w.WriteHeader(status)
	if length < 0 {
		_ = out.Flush() // the first byte may be long in coming
	}
	if err := d.copyOn(w, out, body, length); err != nil {
		recordOf(r.Context()).cut = err.Error()
		panic(http.ErrAbortHandler)
	}
}

func (d *Door) copyOn(w io.Writer, out *http.ResponseController, body io.Reader, length int64) error {
	buf, _ := chunks.Get().(*[chunkBytes]byte)
	defer chunks.Put(buf)
	defer func() { _ = out.SetWriteDeadline(time.Time{}) }()
	for sent := int64(0); ; {
		n, err := body.Read(buf[:])
		if n > 0 {
			_ = out.SetWriteDeadline(d.clock().Add(writeTime))
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if sent += int64(n); sent != length { // what is whole is sent by the server, in one piece with its end
				_ = out.Flush()
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
