package control

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/weftnet/weft/daemon/table"
	"github.com/weftnet/weft/tunnel"
)

// WriteText writes the status for a human to read, as of now: first what is
// wrong, then this node line by line, then its peers as a table.
func (s *Status) WriteText(w io.Writer, now time.Time) error {
	var b strings.Builder
	s.writeProblems(&b)
	s.writeNode(&b, now)
	if s.Backend != nil {
		writeBackendProblems(&b, s.Backend.Problems)
		writeCapabilities(&b, s.Backend.Capabilities)
		writePeers(&b, s.Backend.Peers)
		writeSkipped(&b, s.Backend.Skipped)
		writeDrops(&b, s.Backend.Drops)
	}
	writeBadEntries(&b, s.BadEntries)
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Status) writeProblems(b *strings.Builder) {
	if s.Ready {
		return
	}
	b.WriteString("NOT READY\n")
	for _, reason := range s.NotReady {
		fmt.Fprintf(b, "  %s\n", table.Clean(reason))
	}
	b.WriteString("\n")
}

func (s *Status) writeNode(b *strings.Builder, now time.Time) {
	state := "ready"
	if !s.Ready {
		state = "not ready"
	}
	t := table.New(b)
	t.Row("weftd", fmt.Sprintf("%s: %s, pid %d, up %s", s.Version, state, s.PID, span(now.Sub(s.Started))))
	t.Row("node", fmt.Sprintf("%s, ID %s", s.Node.Hostname, cmp.Or(s.Node.ID, "not known yet")))
	t.Row("network", s.Network.String())
	t.Row("lease", s.Lease.Text(now))
	t.Row("underlay", s.Underlay.String())
	t.Row("etcd", s.Etcd.text(now))
	t.Row("firewall", s.Firewall.String())
	for _, answer := range s.Firewall.Answers {
		t.Row("", answer)
	}
	t.Row("backend", backendText(s.Backend))
	if s.Backend != nil && s.Backend.ByKernel != nil {
		t.Row("", byKernelText(s.Backend.ByKernel))
	}
	if s.Containers != nil {
		t.Row("containers", s.Containers.String())
	}
	t.Flush()
}

// String is the network on one line.
func (n Network) String() string {
	text := cmp.Or(prefixes(n.IPv4, n.IPv6), "not known yet")
	if n.Problem != "" {
		text += "; PROBLEM: " + n.Problem
	}
	return text
}

// Text is the lease on one line, as of now.
func (l Lease) Text(now time.Time) string {
	text := cmp.Or(prefixes(l.Subnet, l.SubnetV6), "none yet")
	switch {
	case !l.Subnet.IsValid():
	case !l.Held:
		text += ", NOT HELD"
	case l.Reservation:
		text += ", a reservation"
	case l.Expires.IsZero():
	case now.Before(l.Expires):
		text += fmt.Sprintf(", expires in %s unless renewed", span(l.Expires.Sub(now)))
	default:
		text += fmt.Sprintf(", EXPIRED %s ago", span(now.Sub(l.Expires)))
	}
	if l.Problem != "" {
		text += "; PROBLEM: " + l.Problem
	}
	return text
}

// String is the underlay on one line.
func (u Underlay) String() string {
	if u.Interface == "" {
		return "not known yet"
	}
	parts := []string{u.Interface, fmt.Sprintf("MTU %d", u.MTU)}
	for _, a := range []struct{ own, public netip.Addr }{{u.IPv4, u.PublicIPv4}, {u.IPv6, u.PublicIPv6}} {
		switch {
		case !a.own.IsValid() && !a.public.IsValid():
		case a.own == a.public || !a.public.IsValid():
			parts = append(parts, a.own.String())
		case !a.own.IsValid():
			parts = append(parts, "public "+a.public.String())
		default:
			parts = append(parts, a.own.String()+" (public "+a.public.String()+")")
		}
	}
	return strings.Join(parts, ", ")
}

func (e Etcd) text(now time.Time) string {
	text := strings.Join(e.Endpoints, ", ")
	if e.Embedded {
		text += " (inside this daemon)"
	}
	if e.Connected {
		return text + ", connected"
	}
	text += ", NOT CONNECTED"
	if !e.LastContact.IsZero() {
		text += fmt.Sprintf(", last answer %s ago", span(now.Sub(e.LastContact)))
	}
	if e.Error != "" {
		text += ": " + e.Error
	}
	return text
}

// String is the firewall on one line.
func (f Firewall) String() string {
	text := cmp.Or(f.Mode, "not known yet")
	if f.Why != "" {
		text += " (" + f.Why + ")"
	}
	for _, p := range f.Problems {
		text += "; PROBLEM: " + p
	}
	return text
}

// String is the containers on one line.
func (c Containers) String() string {
	text := fmt.Sprintf("%d on %s", c.Count, c.Bridge)
	if c.Larger > 0 {
		text += fmt.Sprintf("; %d with an MTU above the backend's, which costs them a little: start them anew when it suits", c.Larger)
	}
	return text
}

func backendText(b *tunnel.Status) string {
	if b == nil {
		return "none yet"
	}
	return fmt.Sprintf("%s on %s, MTU %d for containers, %s", b.Type, b.Device, b.MTU, count(len(b.Peers), "peer"))
}

func byKernelText(c *tunnel.Carried) string {
	return fmt.Sprintf("of the peers' packets, the kernel alone carried %d out (%s) and %d in (%s)",
		c.TxPackets, humanize.IBytes(c.TxBytes), c.RxPackets, humanize.IBytes(c.RxBytes))
}

func writeBackendProblems(b *strings.Builder, problems []string) {
	if len(problems) == 0 {
		return
	}
	b.WriteString("\nPROBLEMS OF THE BACKEND\n")
	for _, p := range problems {
		fmt.Fprintf(b, "  %s\n", table.Clean(p))
	}
}

func writeCapabilities(b *strings.Builder, capabilities []tunnel.Capability) {
	if len(capabilities) == 0 {
		return
	}
	b.WriteString("\n")
	t := table.New(b, "CAPABILITY", "IN FORCE", "WHY")
	for _, c := range capabilities {
		on := "yes"
		if !c.On {
			on = "no"
		}
		t.Row(c.Name, on, c.Why)
	}
	t.Flush()
}

func writePeers(b *strings.Builder, peers []tunnel.PeerStatus) {
	if len(peers) == 0 {
		return
	}
	b.WriteString("\n")
	t := table.New(b, "PEER SUBNET", "NODE", "ENDPOINT", "PATH", "MTU", "SENT", "RECEIVED", "NOTES")
	uncounted := false
	for _, p := range peers {
		subnet := p.Subnet
		if p.SubnetV6 != "" {
			subnet += " " + p.SubnetV6
		}
		mtu := "-"
		if p.PathMTU > 0 {
			mtu = fmt.Sprint(p.PathMTU)
		}
		sent, received := humanize.IBytes(p.TxBytes), humanize.IBytes(p.RxBytes)
		if p.Path != pathUDP && p.TxPackets == 0 && p.RxPackets == 0 {
			sent, received = "-", "-"
			uncounted = true
		}
		t.Row(subnet, shortID(p.NodeID), p.Endpoint, p.Path, mtu, sent, received, strings.Join(p.Notes, "; "))
	}
	t.Flush()
	if uncounted {
		b.WriteString("(-: carried by the kernel, which counts by device and not by peer: `ip -s link`)\n")
	}
}

// pathUDP is the path of packets that are counted by peer.
const pathUDP = "udp"

func writeSkipped(b *strings.Builder, skipped []tunnel.SkippedPeer) {
	if len(skipped) == 0 {
		return
	}
	b.WriteString("\n")
	t := table.New(b, "SKIPPED PEER", "WHY")
	for _, s := range skipped {
		t.Row(s.Subnet, s.Why)
	}
	t.Flush()
}

// writeDrops lists the reasons for which packets were dropped, the most
// frequent first.
func writeDrops(b *strings.Builder, drops map[string]uint64) {
	reasons := slices.DeleteFunc(slices.Sorted(maps.Keys(drops)), func(r string) bool { return drops[r] == 0 })
	if len(reasons) == 0 {
		return
	}
	slices.SortStableFunc(reasons, func(x, y string) int { return cmp.Compare(drops[y], drops[x]) })
	b.WriteString("\n")
	t := table.New(b, "PACKETS DROPPED", "REASON")
	for _, r := range reasons {
		t.Row(fmt.Sprint(drops[r]), r)
	}
	t.Flush()
}

func writeBadEntries(b *strings.Builder, entries []BadEntry) {
	if len(entries) == 0 {
		return
	}
	b.WriteString("\n")
	t := table.New(b, "BAD KEY IN ETCD", "REVISION", "WHAT IS WRONG")
	for _, e := range entries {
		t.Row(e.Key, fmt.Sprint(e.Revision), e.Error)
	}
	t.Flush()
}

func prefixes(p ...netip.Prefix) string {
	var texts []string
	for _, p := range p {
		if p.IsValid() {
			texts = append(texts, p.String())
		}
	}
	return strings.Join(texts, " and ")
}

// shortID is enough of a node ID to tell nodes apart by eye; flannel's nodes
// have none.
func shortID(id string) string {
	return cmp.Or(id[:min(len(id), 8)], "-")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// span is a duration with its two largest units.
func span(d time.Duration) string {
	d = max(d, 0)
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 2*24*3600:
		return fmt.Sprintf("%dh%dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%dh", s/(24*3600), s/3600%24)
}
