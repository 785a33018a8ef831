package chain

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"bursar/evm"
)

// errNoWord says that a view of the token answered something else than one word.
var errNoWord = errors.New("chain: not a word")

// errTooLarge says that a node refuses a range of logs for its size. It never leaves the package.
var errTooLarge = errors.New("chain: log range too large")

const (
	codeReverted      = 3      // geth and those who follow it
	codeLimitExceeded = -32005 // EIP-1474; Infura says it for too many results
)

// JSON-RPC knows no common codes, so nodes are understood by their words: those of geth first, which op-geth (Base)
// shares, then those of Erigon, Nethermind, Besu, reth and the large providers. The first match counts.
var sendWords = []struct {
	class error
	words []string
}{
	{evm.ErrUnderpriced, []string{
		"underpriced", "max fee per gas less than block base fee", "fee too low", "feetoolow", "gas price too low",
		"gas tip cap", "below configured minimum",
	}},
	{evm.ErrKnown, []string{
		"already known", "nonce too low", "known transaction", "alreadyknown", "already imported", "already exists",
		"already in mempool", "oldnonce", "nonce is too low",
	}},
	{evm.ErrNoGas, []string{"insufficient funds", "insufficientfunds", "insufficient balance", "upfront cost exceeds"}},
	{evm.ErrReverted, []string{"execution reverted", "transaction reverted", "always failing transaction"}},
}

var (
	rateWords = []string{"rate limit", "too many requests", "request limit", "compute units", "capacity"}
	sizeWords = []string{
		"query returned more than", "too many results", "too many logs", "range is too", "range too", "range limit",
		"maximum block range", "max block range", "exceeds the range", "limited to a", "limit exceeded",
		"response size", "response too large", "exceeds max results", "too large", "is greater than the limit",
	}
	behindWords = []string{
		"beyond current head", "header not found", "unknown block", "block not found", "block number not found", "could not find block",
	}
	failWords = []string{"out of gas", "invalid opcode", "invalid jump", "stack underflow", "stack limit", "write protection"}
)

// fail classes an error of a node: evm.ErrReverted when a simulated call failed, errTooLarge for logs, and
// evm.ErrUnavailable for all else, since the next node or the next second may do better. Classes that exist for
// transactions only are found by sendClass.
func (n *node) fail(method string, err error) error {
	var answer rpc.Error
	if errors.As(err, &answer) {
		switch text := strings.ToLower(answer.Error()); {
		case method == "eth_call" && (answer.ErrorCode() == codeReverted || contains(text, failWords) || strings.Contains(text, "revert")):
			return fmt.Errorf("%w: %s", evm.ErrReverted, reason(err))
		case method == "eth_getLogs" && isTooLarge(answer.ErrorCode(), text):
			return fmt.Errorf("%w: %s: %s", errTooLarge, n.host, answer.Error())
		case contains(text, behindWords):
			return fmt.Errorf("%w: %w: %s: %s: %s", evm.ErrUnavailable, errBehind, n.host, method, answer.Error())
		case answer.ErrorCode() == codeLimitExceeded || answer.ErrorCode() == http.StatusTooManyRequests || contains(text, rateWords):
			return fmt.Errorf("%w: %s: %s: %w", evm.ErrUnavailable, n.host, method, &busyError{words: answer.Error()})
		}
	}
	var busy *busyError
	if errors.As(err, &busy) {
		return fmt.Errorf("%w: %s: %s: %w", evm.ErrUnavailable, n.host, method, busy)
	}
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) && method == "eth_getLogs" {
		return fmt.Errorf("%w: %s: an answer of more than %d bytes", errTooLarge, n.host, tooLong.Limit)
	}
	var status rpc.HTTPError
	if errors.As(err, &status) {
		text := strings.ToLower(string(status.Body))
		if method == "eth_getLogs" && (status.StatusCode == http.StatusRequestEntityTooLarge ||
			(status.StatusCode == http.StatusBadRequest && contains(text, sizeWords))) {
			return fmt.Errorf("%w: %s: %s", errTooLarge, n.host, status.Status)
		}
		return fmt.Errorf("%w: %s: %s: HTTP %s", evm.ErrUnavailable, n.host, method, status.Status)
	}
	var dial *url.Error
	if errors.As(err, &dial) {
		err = dial.Err // the outer text holds the URL, which may hold a secret
	}
	return fmt.Errorf("%w: %s: %s: %w", evm.ErrUnavailable, n.host, method, &nodeError{err})
}

// nodeError is the cause below evm.ErrUnavailable. It unwraps to a context's error only, so that nobody comes to
// rely on the words of a node.
type nodeError struct{ cause error }

func (e *nodeError) Error() string { return e.cause.Error() }

func (e *nodeError) Unwrap() error {
	for _, c := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(e.cause, c) {
			return c
		}
	}
	return nil
}

// sendClass reads a node's refusal of a transaction. Transport errors never reach it as a refusal: the transaction
// may have arrived.
func sendClass(err error) error {
	var answer *nodeError
	var refusal rpc.Error
	if !errors.As(err, &answer) || !errors.As(answer.cause, &refusal) {
		return err
	}
	text := strings.ToLower(refusal.Error())
	for _, c := range sendWords {
		if contains(text, c.words) {
			return fmt.Errorf("%w: %s", c.class, refusal.Error())
		}
	}
	return err
}

func isTooLarge(code int, text string) bool {
	if contains(text, rateWords) {
		return false
	}
	return code == codeLimitExceeded || contains(text, sizeWords)
}

// reason is the text of a revert: Solidity's, when the node sent the data, or the node's own words.
func reason(err error) string {
	var data rpc.DataError
	if errors.As(err, &data) {
		if text, ok := data.ErrorData().(string); ok {
			if raw, bad := hexutil.Decode(text); bad == nil {
				if why, bad := abi.UnpackRevert(raw); bad == nil {
					return why
				}
			}
		}
	}
	var answer rpc.Error
	if errors.As(err, &answer) {
		return strings.TrimPrefix(answer.Error(), "execution reverted: ")
	}
	return err.Error()
}

func contains(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
