package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// run runs the firewall in the host until the test ends.
func (n *node) run(t *testing.T, fw *Firewall, resync time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		if err := n.host.Do(func() error { return fw.Run(ctx, resync) }); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// saved is everything in the host's firewalls, without counters and comments.
func (n *node) saved(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, cmd := range []string{
		"iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save",
		// Shows also what iptables-nft-save cannot.
		"nft -s list ruleset",
	} {
		out.WriteString("=== " + cmd + "\n")
		for line := range strings.Lines(n.sh(t, cmd+" 2>/dev/null")) {
			if line[0] == '#' {
				continue
			}
			if line[0] == ':' { // :CHAIN POLICY [packets:bytes]
				line = line[:strings.IndexByte(line, '[')] + "\n"
			}
			out.WriteString(line)
		}
	}
	return out.String()
}

// grep returns the lines that contain what.
func grep(lines, what string) string {
	var out strings.Builder
	for line := range strings.Lines(lines) {
		if strings.Contains(line, what) {
			out.WriteString(line)
		}
	}
	return out.String()
}

func sortedLines(text string) string {
	return strings.Join(slices.Sorted(strings.Lines(text)), "")
}

func TestRemovedRulesComeBack(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		var damage []string
		if mode == ModeNFTables {
			damage = []string{
				"nft delete table inet weft",
				"nft flush chain inet weft postrouting",
				"nft flush table inet weft",
				"nft add rule inet weft mss drop",
				"nft flush ruleset; iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP",
				"iptables-nft -F FORWARD",
				"iptables-nft -F WEFT-FORWARD",
				"iptables-nft -I FORWARD -j DROP",
			}
		} else {
			damage = []string{
				"IPT -t nat -F WEFT-POSTROUTING",
				"IPT -t nat -D WEFT-POSTROUTING 2",
				"IPT -t nat -A WEFT-POSTROUTING -j RETURN",
				"IPT -t nat -D POSTROUTING 1",
				"IPT -t nat -I POSTROUTING -s 10.5.34.0/24 ! -o docker0 -j MASQUERADE",
				`printf '*nat\nCOMMIT\n' | IPT-restore --wait=60`, // at once, lest weft comes between
				"IPT -t mangle -F",
				"IPT -F FORWARD",
				"IPT -I FORWARD -j DROP",
				"IPT -I FORWARD -j WEFT-FORWARD",
			}
		}
		n := newNode(t)
		dropForward(t, n, mode)
		fw := n.start(t, mode, full())
		want := sortedLines(grep(n.saved(t), "weft")) // a table made anew is listed last
		n.run(t, fw, 50*time.Millisecond)
		for _, line := range damage {
			line = strings.ReplaceAll(line, "IPT", mode.command(v4))
			before := fw.Status().Restored
			n.sh(t, line)
			eventually(t, "rules back after "+line, func() bool { return fw.Status().Restored > before })
		}
		wantSource(t, "container to remote", n.container, netip.Addr{}, n.remote, v4.remote, v4.container)
		wantSource(t, "container to outside", n.container, netip.Addr{}, n.outside, v4.outside, v4.hostOutside)
		// What else was put there stays.
		if got := sortedLines(grep(n.saved(t), "weft")); got != want {
			t.Errorf("rules are now\n%s\nwant\n%s", got, want)
		}
	})
}

// In nf_tables changes are seen as they happen, not by the timer.
func TestRemovedRulesComeBackByEvent(t *testing.T) {
	for _, mode := range []Mode{ModeIPTablesNFT, ModeNFTables} {
		t.Run(string(mode), func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			n := newNode(t)
			fw := n.start(t, mode, full())
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- n.host.Do(func() error { return fw.Run(ctx, time.Hour) }) }()
			// Run may not listen yet: repeat the damage until it is noticed, but
			// leave it time to finish what it started. To flush what is empty
			// makes no event, so there is a table to flush.
			var damaged time.Time
			eventually(t, "rules back", func() bool {
				if time.Since(damaged) > 4*settle {
					n.sh(t, "nft add table inet other; nft flush ruleset")
					damaged = time.Now()
				}
				return fw.Status().Restored > 0
			})
			cancel()
			must(t, <-done)
		})
	}
}

// Docker starts after weftd on every boot.
func TestDockerStartsLater(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		fw := n.start(t, mode, full())
		n.run(t, fw, 50*time.Millisecond)
		dockerForward(t, n, mode)
		eventually(t, "container reaches remote", func() bool {
			_, err := sourceSeenWithin(n.container, netip.Addr{}, n.remote, v4.remote, 100*time.Millisecond)
			return err == nil
		})
		eventually(t, "jump at the head of DOCKER-USER", func() bool {
			return strings.HasSuffix(firstRule(n.sh(t, mode.command(v6)+" -S DOCKER-USER")), "-j WEFT-OVERLAY")
		})
		checkForwarding(t, n)
	})
}

var packetsCounted = regexp.MustCompile(`packets \d+ bytes \d+`)

// A second Apply of the same, or Run's checks, must not write.
func TestUnchangedRulesAreLeftAlone(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		dropForward(t, n, mode)
		fw := n.start(t, mode, full())
		wantSource(t, "container to outside", n.container, netip.Addr{}, n.outside, v4.outside, v4.hostOutside)
		// Rules made anew have other handles, or have counted nothing. The host
		// may send something of its own meanwhile, so counters may grow.
		identity := func() string {
			if mode == ModeNFTables {
				return packetsCounted.ReplaceAllString(n.sh(t, "nft -a list ruleset"), "")
			}
			rule := n.sh(t, mode.command(v4)+"-save -c -t nat | grep MASQUERADE")
			return fmt.Sprint("counted nothing: ", strings.HasPrefix(rule, "[0:0]"))
		}
		before := identity()
		n.apply(t, fw, full())
		if after := identity(); after != before {
			t.Errorf("rules before a second Apply\n%s\nand after\n%s", before, after)
		}
	})
}

// A lock that somebody holds is an error that says so, and Run gets over it.
func TestXtablesLock(t *testing.T) {
	requireLegacy(t)
	n := newNode(t)
	file := t.TempDir() + "/xtables.lock"
	t.Setenv("XTABLES_LOCKFILE", file)
	lock, err := os.Create(file)
	must(t, err)
	defer lock.Close()
	must(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))

	var fw *Firewall
	must(t, n.host.Do(func() (err error) {
		fw = &Firewall{log: quietLog(), host: inspect()}
		fw.chosen = choice{mode: ModeIPTablesLegacy, tool: fw.host.tool("iptables-legacy")}
		return nil
	}))
	cfg := full()
	cfg.Network6 = netip.Prefix{} // waiting once is enough
	err = n.host.Do(func() error { return fw.Apply(cfg) })
	if err == nil || !strings.Contains(err.Error(), "holds the xtables lock") {
		t.Fatalf("apply with the lock taken: %v", err)
	}
	if s := fw.Status(); !strings.Contains(s.Problem, "holds the xtables lock") {
		t.Errorf("status %+v, want the lock as the problem", s)
	}
	must(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_UN))
	n.run(t, fw, 50*time.Millisecond)
	eventually(t, "rules in place", func() bool { return fw.Status().Problem == "" })
	checkSources(t, n, v4)
}

func TestRunRefusesNoPeriod(t *testing.T) {
	if err := (&Firewall{}).Run(t.Context(), 0); err == nil {
		t.Error("Run took a period of 0")
	}
}
