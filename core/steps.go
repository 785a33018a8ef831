package core

// The places at which a crash leaves work to be finished. Each lies behind a commit or behind something that has left
// the process; what is not finished there, a job or the next request finishes.
const (
	StepLogin      = "fetch: login kept" // what the wallet signs to say who it is is written down, and has not left
	StepGreeted    = "fetch: greeted"    // the login has left and the answer is here, not noted
	StepHeld       = "fetch: held"       // the money is reserved, nothing is signed
	StepSigned     = "fetch: signed"     // the proof exists and has not left
	StepMined      = "fetch: mined"      // a payment by transfer is in a block, and its hash has not been shown
	StepPaid       = "fetch: paid"       // the proof has left and the answer is here, not booked
	StepBooked     = "fetch: booked"     // booked, not answered
	StepQueued     = "operation: queued" // the intent and its hold are there
	StepAuthorized = "operation: authorized"
	StepStored     = "operation: stored"   // the carrier's bytes are stored and not sent
	StepSent       = "operation: sent"     // sent, and not noted
	StepIncluded   = "operation: included" // mined, not booked
	StepLog        = "watch: log"          // one movement of a range is booked
	StepRange      = "watch: range"        // all of a range are booked, the cursor has not moved
	StepClosing    = "session: closing"    // no more holds; the refund may be queued
	StepConsented  = "top-up: consented"   // the terms are in force and their permit is queued, not answered
	StepPull       = "top-up: queued"      // one agent's pull is queued, the next agent has not been looked at
	StepInactive   = "agent: inactive"     // it pays no more; its sessions are open and its money is there
	StepEnded      = "agent: ended"        // its sessions are closed, what it has is not drained
)

// Steps lists every step, in the order in which a payment, a session, a top-up and the end of an agent meet them.
func Steps() []string {
	return []string{
		StepLogin, StepGreeted, StepHeld, StepSigned, StepMined, StepPaid, StepBooked, StepQueued, StepAuthorized, StepStored, StepSent, StepIncluded, StepLog, StepRange, StepClosing,
		StepConsented, StepPull, StepInactive, StepEnded,
	}
}
