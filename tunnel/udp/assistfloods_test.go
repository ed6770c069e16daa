package udp

import (
	"errors"
	"testing"
)

// Floods go by user space where that carries them in batches, as many as it has
// workers, and the status says so.
func TestAssistFloods(t *testing.T) {
	ns := newUnderlay(t, setup{})[0]
	for _, c := range []struct {
		name string
		setup
		on  bool
		why string
	}{
		{"one worker", setup{assist: true}, true, "UDP flows in user space for their rate: 0 of at most 1"},
		{"three workers", setup{assist: true, workers: 3}, true, "UDP flows in user space for their rate: 0 of at most 3"},
		{"more workers than seats", setup{assist: true, workers: 5}, true, "UDP flows in user space for their rate: 0 of at most 4"},
		{"disabled", setup{assist: true, disable: []Feature{AssistFloods}}, false, "disabled"},
		{"no udp_segment", setup{assist: true, disable: []Feature{UDPSegment}}, false, "needs udp_segment"},
		{"no udp_gro", setup{assist: true, disable: []Feature{UDPGRO}}, false, "needs udp_gro"},
		{"no tun_gro_udp", setup{assist: true, disable: []Feature{TUNGROUDP}}, false, "needs tun_gro_udp"},
		{"no assist", setup{}, false, "needs assist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, ns, 1, c.setup)
			if f := capability(t, n, AssistFloods); f.On != c.on || f.Why != c.why {
				t.Errorf("%+v", f)
			}
			if !c.on {
				return
			}
			n.assisted.mu.Lock()
			n.assisted.off = errors.New("IPsec")
			n.assisted.mu.Unlock()
			if f := capability(t, n, AssistFloods); f.On || f.Why != "needs assist" {
				t.Errorf("while the kernel carries nothing: %+v", f)
			}
			check(t, n.Close())
		})
	}
}
