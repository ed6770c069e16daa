package assist

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftnet/weft/tunnel/packet"
)

var (
	addr = netip.MustParseAddr
	pfx  = netip.MustParsePrefix
)

// unhex reads hexadecimal digits, between which there may be spaces.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// change is what a case changes of a packet: at an offset, or at the end with
// an offset of -1.
type change struct {
	at  int
	hex string
}

// changed applies changes to a copy of a packet.
func changed(t testing.TB, pkt []byte, changes []change) []byte {
	t.Helper()
	pkt = slices.Clone(pkt)
	for _, c := range changes {
		if c.at < 0 {
			pkt = append(pkt, unhex(t, c.hex)...)
			continue
		}
		copy(pkt[c.at:], unhex(t, c.hex))
	}
	return pkt
}

// fillSum writes the checksum of the IPv4 header, without options, at an offset.
func fillSum(pkt []byte, at int) {
	if len(pkt) < at+ipLen {
		return
	}
	header := pkt[at : at+ipLen]
	binary.BigEndian.PutUint16(header[ipChecksum:], 0)
	binary.BigEndian.PutUint16(header[ipChecksum:], ^packet.Sum(header, 0))
}

// skb is struct __sk_buff as BPF_PROG_TEST_RUN takes it: what is not named must be
// zero.
type skb struct {
	_       [8]byte
	Mark    uint32
	_       [164]byte
	GSOSize uint32
	_       [12]byte
}

// verdict runs a program on a packet.
func verdict(t testing.TB, program *ebpf.Program, pkt []byte, gsoSize uint32) int32 {
	t.Helper()
	v, err := program.Run(&ebpf.RunOptions{Data: pkt, Context: skb{GSOSize: gsoSize}})
	if err != nil {
		t.Fatal(err)
	}
	return int32(v)
}

// verdictNames are those of enum tcx_action_base and bpf_redirect.
var verdictNames = map[int32]string{tcxNext: "user space", tcxDrop: "drop", tcxRedirect: "redirected"}

const tcxRedirect = 7

// newAssist has programs loaded that are attached to nothing.
func newAssist(t testing.TB, cfg Config, own netip.Prefix, peers ...Peer) *Assist {
	t.Helper()
	p, err := load(cfg)
	check(t, err)
	a := &Assist{programs: p, cfg: cfg}
	t.Cleanup(func() {
		check(t, a.Close())
		for _, r := range a.rings {
			check(t, r.Close())
		}
	})
	check(t, a.share())
	check(t, a.Set(own, peers))
	return a
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ran returns what a program has made of a packet that it carries.
func ran(t testing.TB, program *ebpf.Program, pkt []byte) string {
	t.Helper()
	opts := ebpf.RunOptions{Data: pkt, DataOut: make([]byte, len(pkt)+256)}
	v, err := program.Run(&opts)
	check(t, err)
	if v != tcxRedirect {
		t.Fatalf("%x: %s", pkt, verdictNames[int32(v)])
	}
	return string(opts.DataOut)
}
