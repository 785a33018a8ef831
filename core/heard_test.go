package core

import (
	"testing"

	"github.com/google/uuid"

	"bursar/ent"
	"bursar/ent/approval"
)

// A stream that lives long knows what it has told of the newest requests, and no more than so many.
func TestHeardIsBounded(t *testing.T) {
	var known heard
	ids := make([]uuid.UUID, 10*maxHeard+7)
	for i := range ids {
		ids[i] = uuid.New()
		known.put(&ent.Approval{ID: ids[i], Status: approval.StatusPending})
		known.put(&ent.Approval{ID: ids[i], Status: approval.StatusUsed})
		if n := len(known.now) + len(known.before); n > 2*maxHeard {
			t.Fatalf("%d are known after %d", n, i)
		}
		for _, newer := range ids[max(0, i-maxHeard+1) : i+1] {
			if i%997 == 0 && known.last(newer) != approval.StatusUsed {
				t.Fatalf("after %d, one of the newest %d is %q", i, maxHeard, known.last(newer))
			}
		}
	}
	if known.last(ids[0]) != "" {
		t.Error("the first is known for ever")
	}
}
