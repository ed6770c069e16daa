package udp

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/weftnet/weft/tunnel/packet"
	"github.com/weftnet/weft/tunnel/probe"
)

const (
	tunnel1 = "10.5.1.0"
	tunnel2 = "10.5.2.0"
)

// A probe is answered where it came from, and never reaches the TUN.
func TestProbeIsAnswered(t *testing.T) {
	m := newMemNode(t, 1)
	m.receiver.echo = newEcho(DefaultPort, func() { t.Error("a request is taken for an answer") })
	m.receiver.echo.ports[0] = m.socket
	request := probe.Build(make([]byte, probe.Len), addr(tunnel2), addr(tunnel1), 77)
	m.receive(t, arrival(request))
	if w := m.tun.take(); len(w) != 0 {
		t.Errorf("the TUN got %x", w)
	}
	if len(m.socket.sent) != 1 || m.socket.sent[0].to != outer(2, false) {
		t.Fatalf("sent %+v", m.socket.sent)
	}
	want := bytes.Clone(request)
	probe.Answer(want)
	if got := m.socket.sent[0].payload; !bytes.Equal(got, want) {
		t.Errorf("answered %x, want %x", got, want)
	}
	// Those to or from a container are packets like any other.
	for _, p := range [][]byte{
		udp4(tunnel2, tunnel1, nil),
		probe.Build(make([]byte, probe.Len), addr("10.5.2.2"), addr(tunnel1), 77),
		probe.Build(make([]byte, probe.Len), addr(tunnel2), addr("10.5.1.2"), 77),
	} {
		m.receive(t, arrival(p))
		if len(m.tun.take()) != 1 || len(m.socket.sent) != 1 {
			t.Errorf("%x is taken for a probe", p)
		}
	}
	m.receive(t, arrival(probe.Build(make([]byte, probe.Len), addr("10.5.3.0"), addr(tunnel1), 77)))
	if m.drops()["rx_spoofed_source"] != 1 || len(m.socket.sent) != 1 {
		t.Errorf("a stranger's probe: drops %v", m.drops())
	}
}

// Answers are noted once each, whatever else comes.
func TestProbeAnswers(t *testing.T) {
	m := newMemNode(t, 1)
	noticed := 0
	m.receiver.echo = newEcho(DefaultPort, func() { noticed++ })
	asking := newEcho(DefaultPort, nil)
	asking.ports[0] = m.socket
	seq, err := asking.ask(addr(tunnel1), m.peer())
	check(t, err)
	if seq != 1 || len(m.socket.sent) != 1 || m.socket.sent[0].to != outer(2, false) {
		t.Fatalf("probe %d: sent %+v", seq, m.socket.sent)
	}
	reply := m.socket.sent[0].payload
	probe.Answer(reply)
	forged := bytes.Clone(reply)
	forged[len(forged)-1] ^= 1
	m.receive(t, arrival(forged), arrival(reply))
	var answered []uint64
	m.peer().State.Echoes.Take(func(seq uint64) { answered = append(answered, seq) })
	if len(answered) != 1 || answered[0] != 1 || noticed != 1 {
		t.Errorf("answered %v, noticed %d", answered, noticed)
	}
	if n := m.peer().State.Rx.Packets.Load() + m.peer().State.Tx.Packets.Load(); n != 0 {
		t.Errorf("%d probes are counted as traffic", n)
	}
}

// The answer to a trial is told from a probe's, and wakes nobody.
func TestTrialAnswers(t *testing.T) {
	m := newMemNode(t, 1)
	m.receiver.echo = newEcho(DefaultPort, func() { t.Error("it is noticed") })
	state := m.peer().State
	_, probed := state.Echoes.Next()
	seq, nonce := state.Trials.Next()
	for _, nonce := range []uint64{nonce + 1, nonce - 1, nonce, probed + 1} {
		m.receive(t, arrival(probe.BuildReply(make([]byte, probe.Len), addr(tunnel2), addr(tunnel1), nonce)))
	}
	var answered []uint64
	state.Trials.Take(func(seq uint64) { answered = append(answered, seq) })
	state.Echoes.Take(func(seq uint64) { t.Errorf("probe %d is answered", seq) })
	if len(answered) != 1 || answered[0] != seq {
		t.Errorf("answered %v", answered)
	}
	if w := m.tun.take(); len(w) != 0 {
		t.Errorf("the TUN got %x", w)
	}
}

// trialFrom is a trial as it comes out of the TUN.
func trialFrom(from, to string, hdr packet.VnetHdr) []byte {
	b := make([]byte, packet.VnetHdrLen+probe.TrialLen(1472, 2))
	hdr.Encode(b)
	probe.BuildTrial(b[packet.VnetHdrLen:], addr(from), addr(to), 77)
	return b
}

// A peer's trial is answered if it came whole; anything else is a packet that
// nobody is there for.
func TestTrialIsAnswered(t *testing.T) {
	super := packet.VnetHdr{Flags: packet.FlagNeedsCsum, GSOType: packet.GSOTCPv4, HdrLen: 40, GSOSize: 1432, CsumStart: 20, CsumOffset: 16}
	data := trialFrom(tunnel2, tunnel1, super)
	data[packet.VnetHdrLen+33] = 0x10 // ACK only
	for _, c := range []struct {
		name     string
		pkt      []byte
		answered bool
		drops    map[string]uint64
	}{
		{"whole", trialFrom(tunnel2, tunnel1, super), true, nil},
		{"in pieces", trialFrom(tunnel2, tunnel1, packet.VnetHdr{}), false, map[string]uint64{"tx_no_peer": 1}},
		{"from a container", trialFrom("10.5.2.2", tunnel1, super), false, map[string]uint64{"tx_no_peer": 1}},
		{"from nobody", trialFrom("10.5.3.0", tunnel1, super), false, map[string]uint64{"tx_no_peer": 1}},
		{"to a container", trialFrom(tunnel2, "10.5.1.2", super), false, map[string]uint64{"tx_no_peer": 1}},
		{"to another peer", trialFrom(tunnel2, "10.5.3.0", super), false, map[string]uint64{"tx_no_peer": 1}},
		{"data", data, false, map[string]uint64{"tx_no_peer": 1}},
	} {
		m := newMemNode(t, 1)
		m.sender.echo = newEcho(DefaultPort, nil)
		m.sender.echo.ports[0] = m.socket
		m.send(t, c.pkt)
		if fmt.Sprint(m.drops()) != fmt.Sprint(c.drops) {
			t.Errorf("%s: drops %v, want %v", c.name, m.drops(), c.drops)
		}
		if !c.answered {
			if len(m.socket.sent) != 0 {
				t.Errorf("%s: sent %+v", c.name, m.socket.sent)
			}
			continue
		}
		want := probe.BuildReply(make([]byte, probe.Len), addr(tunnel1), addr(tunnel2), 77)
		if len(m.socket.sent) != 1 || m.socket.sent[0].to != outer(2, false) || !bytes.Equal(m.socket.sent[0].payload, want) {
			t.Errorf("%s: sent %+v", c.name, m.socket.sent)
		}
		if w := m.tun.take(); len(w) != 0 {
			t.Errorf("%s: the TUN got %x", c.name, w)
		}
	}
}

// Trials and probes together are answered so many times a second.
func TestTrialAnswersAreLimited(t *testing.T) {
	m := newMemNode(t, 1)
	m.sender.echo = newEcho(DefaultPort, nil)
	m.sender.echo.ports[0] = m.socket
	m.sender.echo.answers = rate.NewLimiter(0, 1)
	trial := trialFrom(tunnel2, tunnel1, packet.VnetHdr{GSOType: packet.GSOTCPv4})
	m.send(t, trial, trial)
	if len(m.socket.sent) != 1 || len(m.drops()) != 0 {
		t.Errorf("%d answers, drops %v", len(m.socket.sent), m.drops())
	}
}

// An error that an earlier packet left on the socket does not cost the probe;
// a buffer that is full does, without a wait.
func TestProbeSendErrors(t *testing.T) {
	m := newMemNode(t, 1)
	asking := newEcho(DefaultPort, nil)
	if _, err := asking.ask(addr(tunnel1), m.peer()); err == nil {
		t.Error("sent without a socket")
	}
	asking.ports[0] = m.socket
	errs := []unix.Errno{unix.ECONNREFUSED}
	calls := 0
	m.socket.refuse = func(*memSend) unix.Errno {
		calls++
		if len(errs) == 0 {
			return 0
		}
		errno := errs[0]
		errs = errs[1:]
		return errno
	}
	if _, err := asking.ask(addr(tunnel1), m.peer()); err != nil || calls != 2 {
		t.Errorf("%d calls: %v", calls, err)
	}
	errs, calls = []unix.Errno{unix.EAGAIN}, 0
	if _, err := asking.ask(addr(tunnel1), m.peer()); err != unix.EAGAIN || calls != 1 {
		t.Errorf("%d calls: %v", calls, err)
	}
}

// Two engines: each answers the other's probes, with the answer noticed at
// once; one that is closed refuses them.
func TestProbeBetweenEngines(t *testing.T) {
	a, b := newPair(t, setup{})
	answered := 0
	waitFor(t, "an answer", func() bool {
		_, err := a.Probe(a.Peers()[0])
		check(t, err)
		a.Peers()[0].State.Echoes.Take(func(uint64) { answered++ })
		return answered > 2
	})
	check(t, b.Close())
	waitFor(t, "a refusal of a probe", func() bool {
		_, _ = a.Probe(a.Peers()[0])
		return a.Peers()[0].State.Refused.Load() > 0
	})
}

// Datagrams that nobody receives are noticed, and only these.
func TestStarved(t *testing.T) {
	open := func() *socket {
		s, err := openSocket(netip.MustParseAddrPort("127.0.0.1:0"), false)
		check(t, err)
		t.Cleanup(s.close)
		return s
	}
	s, other := open(), open()
	m := newMemNode(t, 1)
	r := m.receiver
	r.socket = fdPort{s.fd}
	e := &Engine{sockets: [][]*socket{{s}}, workers: []*worker{{receivers: []*receiver{r}}}, received: make(map[*receiver]uint64)}
	want := func(when string, starved bool) {
		t.Helper()
		if got := e.Starved(); got != starved {
			t.Errorf("%s: starved %v", when, got)
		}
	}
	send := func() {
		t.Helper()
		name, err := unix.Getsockname(s.fd)
		check(t, err)
		check(t, unix.Sendto(other.fd, []byte{0}, 0, name))
		waitFor(t, "the datagram", s.waiting)
	}
	want("nothing there", false)
	send()
	want("not received", true)
	want("still not received", true)
	check(t, r.serve(unix.POLLIN))
	send()
	want("one received since, and another one there", false)
	want("none since", true)
	check(t, r.serve(unix.POLLIN))
	want("all received", false)
	want("nothing more there", false)
}
