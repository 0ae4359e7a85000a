package foolscap

import (
	"strconv"
	"strings"

	"warren/node/foolscap/banana"
)

// version is the only banana version that is in use (since Foolscap 0.1.3): it
// has PING and calls without answer.
const version = 3

// maxID bounds request and object numbers: they travel as INT tokens.
const maxID = 1<<31 - 1

// agreed is what negotiation settles.
type agreed struct {
	vocabulary int
	// Of the master, for the next duplicate: the peer's incarnation and the number
	// of this connection.
	peerIncarnation string
	seqnum          uint64
}

// intRange reads "MIN MAX".
func intRange(s string) (low, high int, err error) {
	a, b, ok := strings.Cut(s, " ")
	low, errA := strconv.Atoi(a)
	high, errB := strconv.Atoi(b)
	if !ok || errA != nil || errB != nil || low < 0 || high < low {
		return 0, 0, disagree("malformed range")
	}
	return low, high, nil
}

// checkVersion finds out whether the peer speaks our version.
func checkVersion(hello map[string]string) error {
	text, ok := hello["banana-negotiation-range"]
	if !ok {
		return disagree("no banana-negotiation-range")
	}
	low, high, err := intRange(text)
	if err != nil {
		return err
	}
	if low > version || high < version {
		return disagree("no common banana version")
	}
	return nil
}

// chooseVocabulary is the master's choice: the highest table that both have.
func chooseVocabulary(hello map[string]string) (int, error) {
	text, ok := hello["initial-vocab-table-range"]
	if !ok {
		text = "0 0"
	}
	low, high, err := intRange(text)
	if err != nil {
		return 0, err
	}
	if best := min(high, banana.MaxVocabulary); best >= low {
		return best, nil
	}
	return 0, disagree("no common vocabulary")
}

// formatDecision is the master's block.
func formatDecision(a agreed, incarnation string) string {
	v, _ := banana.Initial(a.vocabulary)
	return formatBlock(map[string]string{
		"banana-decision-version":   strconv.Itoa(version),
		"initial-vocab-table-index": strconv.Itoa(a.vocabulary) + " " + v.Hash(),
		"current-connection":        incarnation + " " + strconv.FormatUint(a.seqnum, 10),
	})
}

// refusal is the block of a side that gives up.
func refusal(reason string) string {
	return formatBlock(map[string]string{"banana-decision-version": "1", "error": reason})
}

// remoteRefusal is the peer's refusal as an error.
func remoteRefusal(block map[string]string) error {
	reason, ok := block["error"]
	if !ok {
		return nil
	}
	if reason == "Duplicate connection" {
		return ErrDuplicate
	}
	return disagree("the peer says %q", clip(reason, 200))
}

// parseDecision is what the other side makes of the master's block. current is
// what to send as last-connection next time.
func parseDecision(block map[string]string) (a agreed, current string, err error) {
	if err := remoteRefusal(block); err != nil {
		return a, "", err
	}
	if block["banana-decision-version"] != strconv.Itoa(version) {
		return a, "", disagree("decision for another banana version")
	}
	if text, ok := block["initial-vocab-table-index"]; ok {
		index, hash, _ := strings.Cut(text, " ")
		a.vocabulary, err = strconv.Atoi(index)
		v, known := banana.Initial(a.vocabulary)
		if err != nil || !known || a.vocabulary > 0 && hash != v.Hash() {
			return a, "", disagree("decision for an unknown vocabulary")
		}
	}
	current = block["current-connection"]
	if len(current) > 200 {
		return a, "", disagree("current-connection too long")
	}
	return a, current, nil
}

// replaces is the master's verdict on a second connection with a tub: whether the
// hello shows that the existing one is dead (negotiate.py,
// compareOfferAndExisting). One difference: Foolscap refuses a peer that has not
// heard of the existing connection until TCP gives that up; here, unheard, that
// nothing was ever heard over it, shows that our decision was lost on a circuit
// that has stalled.
func replaces(hello map[string]string, existing agreed, incarnation string, unheard bool) bool {
	last, told := hello["last-connection"]
	peer := hello["my-incarnation"]
	if peer == "" || !told {
		return false // Parallel attempts from our side end here.
	}
	if peer != existing.peerIncarnation {
		return true // The peer has restarted.
	}
	master, seqnum, _ := strings.Cut(last, " ")
	switch master {
	case "none":
		return unheard // It has not heard of the existing one yet: parallel attempts.
	case incarnation:
	default:
		return true // It last talked to our past life, so never heard of this one.
	}
	n, err := strconv.ParseUint(seqnum, 10, 64)
	if err != nil || n > existing.seqnum {
		return false
	}
	return n == existing.seqnum || unheard // It knows of it, and connects anyway.
}
