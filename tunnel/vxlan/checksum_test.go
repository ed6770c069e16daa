package vxlan

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
	"github.com/weftnet/weft/tunnel/netstate"
)

// A card is what answers come through: it may lose any packets.
type card struct {
	answers  bool // to packets with their checksum made in software
	works    bool // with packets left to it
	patience int  // answers after so many probes none any more; 0: no such limit
}

func (c *card) probe(_ string, _ netip.Addr, offloaded bool) bool {
	if c.patience--; c.patience == 0 {
		c.answers, c.works = false, false
	}
	return c.answers && (!offloaded || c.works)
}

func TestChecksumVerdicts(t *testing.T) {
	for _, c := range []struct {
		name string
		card
		want offload
		log  string // part of it
	}{
		{"works", card{answers: true, works: true},
			offload{netstate.On, "tested with 10.5.2.0/24"}, `msg="checksum offload of the tunnel works" device=flannel.1`},
		{"mangles", card{answers: true},
			offload{netstate.Off, "this host's network card or hypervisor makes wrong checksums inside VXLAN, as tested with 10.5.2.0/24"},
			`level=WARN msg="checksum offload of the tunnel is switched off: `},
		{"no answer", card{},
			untested, "no peer has answered the test"},
		{"answers to the offloaded ones alone", card{works: true},
			untested, "no peer has answered the test"},
		{"the peer goes away in between", card{answers: true, patience: 4},
			offload{netstate.On, "not known: no peer has answered the whole test yet"}, "no peer has answered the test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVTEP(t, config4(""))
			remotes, _ := v.Remotes(lease(1, false), "vxlan", []subnet.Lease{lease(2, false)})
			log := &kerneltest.Log{}
			changes := make(chan netstate.Switch, 10)
			done := make(chan struct{})
			changed := func() { changes <- v.State(subnet.Subnet{}).Links[0].TxChecksum }
			test := startChecksumTest(v, slog.New(slog.NewTextHandler(log, nil)), changed, c.probe, func() { close(done) }, time.Millisecond)
			defer test.Close()
			test.SetRemotes(nil)
			if got := v.offload("flannel.1"); got != untested {
				t.Errorf("before there is a peer: %+v", got)
			}
			test.SetRemotes(remotes)
			kerneltest.Eventually(t, "a verdict", func() bool { return strings.Contains(log.String(), c.log) })
			if got := v.offload("flannel.1"); got != c.want {
				t.Errorf("found %+v, want %+v", got, c.want)
			}
			test.Close()
			<-done
			var states []netstate.Switch
			for len(changes) > 0 {
				states = append(states, <-changes)
			}
			if c.want == untested {
				if len(states) > 0 {
					t.Errorf("changed to %v", states)
				}
			} else if states[len(states)-1] != c.want.set {
				t.Errorf("changed to %v", states)
			}
		})
	}
}

// What is configured needs no test.
func TestChecksumConfigured(t *testing.T) {
	for setting, want := range map[string]netstate.Switch{"on": netstate.On, "off": netstate.Off} {
		v := newVTEP(t, dualConfig(`{"TxChecksum":"`+setting+`"}`))
		if test := NewChecksumTest(v, slog.Default(), nil); test != nil {
			t.Error("there is a test")
		}
		for _, l := range v.State(subnet.Subnet{}).Links {
			if l.TxChecksum != want {
				t.Errorf("%s: %s has %v", setting, l.Name, l.TxChecksum)
			}
		}
	}
}
