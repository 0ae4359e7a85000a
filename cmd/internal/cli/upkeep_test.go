package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"warren/cmd/internal/ui"
	"warren/node/upkeep"
)

func TestUpkeepLines(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	last := &upkeep.Round{Number: 1, Finished: at, Renewed: 1, Repaired: 2, Unnamed: "the alias \x1b"}
	for _, c := range []struct {
		status upkeep.Status
		want   string
	}{
		{upkeep.Status{Automatic: true}, "upkeep: begins soon\n"},
		{upkeep.Status{}, "upkeep: off; warren upkeep renews leases\n"},
		{upkeep.Status{Automatic: true, Waiting: "no servers", Current: &upkeep.Round{Open: 3}}, "upkeep: waiting, no servers\n"},
		{upkeep.Status{Automatic: true, Current: &upkeep.Round{Open: 3, Done: 4}}, "upkeep: 4 visited, 3 left so far\n"},
		{upkeep.Status{Automatic: true, Known: 7, Next: at.Add(24 * time.Hour), Last: last, AtRisk: 12, Failed: 2, Risks: []upkeep.Risk{
			{Path: "home:film\n", Shares: 4, Needed: 3, Total: 5, Servers: 1, Repair: "no room"}, {Path: "home:gone", Shares: 2, Needed: 3, Total: 5},
		}, Failures: []upkeep.Failure{{Path: "home:x", Reason: "silence"}}},
			"upkeep: next 2026-11-24 12:00; last 2026-11-23 12:00: 7 items kept alive, 1 lease renewed, 2 repaired\n" +
				"  not known: the alias �\n" +
				"  at risk: 12 items are on too few servers\n" +
				"    home:film�: 4 of 5 shares, 3 needed, on 1 server; repair failed: no room\n" +
				"    home:gone: cannot be read now: 2 of the 3 shares that are needed\n" +
				"    and 10 more\n" +
				"  not looked after: home:x: silence\n" +
				"  and 1 more\n"},
	} {
		var out bytes.Buffer
		e := &env{ui: &ui.UI{In: strings.NewReader(""), Out: &out, Err: &out}}
		e.upkeepLines(c.status)
		if out.String() != c.want {
			t.Errorf("%+v:\n%swant\n%s", c.status, out.String(), c.want)
		}
	}
}
