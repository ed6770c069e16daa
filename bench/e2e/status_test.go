package e2e

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
)

// status is what the cases read of `weftd status --json`.
type status struct {
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready"`
	Node     struct {
		ID string `json:"id"`
	} `json:"node"`
	Network struct {
		Problem string `json:"problem"`
	} `json:"network"`
	Lease struct {
		Subnet  netip.Prefix `json:"subnet"`
		Held    bool         `json:"held"`
		Problem string       `json:"problem"`
	} `json:"lease"`
	Etcd struct {
		Connected bool `json:"connected"`
	} `json:"etcd"`
	Backend struct {
		Capabilities []struct {
			Name string `json:"name"`
			On   bool   `json:"on"`
			Why  string `json:"why"`
		} `json:"capabilities"`
		Peers   []peerStatus `json:"peers"`
		Skipped []struct {
			Subnet string `json:"subnet"`
			Why    string `json:"why"`
		} `json:"skipped"`
		Drops    map[string]uint64 `json:"drops"`
		ByKernel struct {
			TxPackets uint64 `json:"tx_packets"`
			RxPackets uint64 `json:"rx_packets"`

			TxSuperpackets uint64 `json:"tx_superpackets"`
		} `json:"by_kernel"` // of those of the peers
	} `json:"backend"`
	BadEntries []struct {
		Key string `json:"key"`
	} `json:"bad_entries"`
}

// peerStatus is what it says of another node.
type peerStatus struct {
	Subnet   string   `json:"subnet"`
	Endpoint string   `json:"endpoint"`
	Path     string   `json:"path"`
	PathMTU  int      `json:"path_mtu"`
	Notes    []string `json:"notes"`

	Superpackets bool `json:"superpackets_by_kernel"`

	TxPackets uint64 `json:"tx_packets"`
	RxPackets uint64 `json:"rx_packets"`
}

// reasons is why a node is not ready, in one line.
func (s status) reasons() string { return strings.Join(s.NotReady, "; ") }

// drops is how many packets the backend dropped for any reason.
func (s status) drops() (total uint64) {
	for _, n := range s.Backend.Drops {
		total += n
	}
	return total
}

// status asks a host's weftd how it is. While that does not answer yet, it is
// as a node that is not ready.
func (c *cluster) status(i int) status {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	// A node that is not ready is an exit status, too.
	answer, err := c.weftds[i].Status(ctx)
	var s status
	if jsonErr := json.Unmarshal(answer, &s); jsonErr != nil {
		if err == nil {
			c.t.Fatalf("weftd status --json prints %q: %v", answer, jsonErr)
		}
		s.NotReady = []string{err.Error()}
	}
	return s
}

// notReady waits until a host's weftd is not ready for a reason that contains
// all of the texts.
func (c *cluster) notReady(i int, texts ...string) {
	c.t.Helper()
	c.eventually(func() string {
		s := c.status(i)
		for _, text := range texts {
			if s.Ready || !strings.Contains(s.reasons(), text) {
				return "not ready for want of " + text + ": " + s.reasons()
			}
		}
		return ""
	})
}

// logged waits until a host's weftd has logged a line that contains all of the
// texts, and returns how many lines do.
func (c *cluster) logged(i int, texts ...string) (lines int) {
	c.t.Helper()
	c.eventually(func() string {
		lines = c.countLogged(i, texts...)
		if lines == 0 {
			return "log has no line with " + strings.Join(texts, " and ")
		}
		return ""
	})
	return lines
}

func lastLineHas(log, text string) bool {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Contains(strings.ToLower(lines[len(lines)-1]), text)
}

func containsAny(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}

func (c *cluster) countLogged(i int, texts ...string) (lines int) {
lines:
	for line := range strings.Lines(c.weftds[i].LogTail(1 << 20)) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		lines++
	}
	return lines
}
