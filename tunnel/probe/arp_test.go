package probe

import (
	"encoding/hex"
	"net/netip"
	"testing"
)

const (
	arpAsk    = "0001080006040001" + "020000000001" + "0a050100" + "000000000000" + "0a050200"
	arpAnswer = "0001080006040002" + "020000000002" + "0a050200" + "020000000001" + "0a050100"
)

func TestARP(t *testing.T) {
	if got := hex.EncodeToString(BuildARP(make([]byte, 64), [6]byte{2, 0, 0, 0, 0, 1}, here, there)); got != arpAsk {
		t.Errorf("request\n%s, want\n%s", got, arpAsk)
	}
	for _, c := range []struct {
		name, packet string
		ok           bool
	}{
		{"reply", arpAnswer, true},
		{"padded reply", arpAnswer + "0000000000", true},
		{"request", arpAsk, false},
		{"truncated", arpAnswer[:54], false},
		{"empty", "", false},
		{"IPv6", "000186dd" + arpAnswer[8:], false},
		{"other hardware", "0006" + arpAnswer[4:], false},
		{"other lengths", arpAnswer[:8] + "0804" + arpAnswer[12:], false},
		{"reverse ARP", arpAnswer[:12] + "0004" + arpAnswer[16:], false},
	} {
		b, err := hex.DecodeString(c.packet)
		if err != nil {
			t.Fatal(err)
		}
		mac, from, ok := ReadARP(b)
		if ok != c.ok || ok && (mac != [6]byte{2, 0, 0, 0, 0, 2} || from != there) {
			t.Errorf("%s: %x %v %v", c.name, mac, from, ok)
		}
	}
}

func FuzzReadARP(f *testing.F) {
	for _, text := range []string{arpAsk, arpAnswer} {
		b, err := hex.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		mac, from, ok := ReadARP(b)
		if !ok {
			return
		}
		built := BuildARP(make([]byte, ARPLen), mac, from, netip.AddrFrom4([4]byte(b[24:])))
		built[7] = arpReply
		copy(built[18:24], b[18:24])
		if string(built) != string(b[:ARPLen]) {
			t.Fatalf("%x was read as what is built %x", b, built)
		}
	})
}
