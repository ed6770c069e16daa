package rule

import (
	"reflect"
	"testing"
)

func TestChains(t *testing.T) {
	set := Set{
		Postrouting: []Rule{{Action: Masquerade}},
		Clamp:       []Rule{{Action: ClampMSS}},
		Raw:         []Rule{{In: "c"}},
		Overlay:     []Rule{{In: "a"}},
		Forward:     []Rule{{In: "b"}},
	}
	nat := Chain{Table: "nat", Name: "WEFT-POSTROUTING", From: "POSTROUTING", Rules: set.Postrouting}
	mss := Chain{Table: "mangle", Name: "WEFT-MSS", From: "FORWARD", Rules: set.Clamp}
	raw := Chain{Table: "raw", Name: "WEFT-RAW", From: "PREROUTING", Rules: set.Raw}
	overlay := Chain{Table: "filter", Name: "WEFT-OVERLAY", From: "DOCKER-USER", Rules: set.Overlay}
	first := Chain{Table: "filter", Name: "WEFT-FORWARD", From: "FORWARD", Rules: set.Forward}
	last := first
	last.Last = true
	plain, docker := Live{InUse: true}, Live{InUse: true, DockerUser: true}
	docker28 := Live{InUse: true, DockerUser: true, DockerForward: true}
	for _, c := range []struct {
		name string
		set  Set
		live Live
		want []Chain
	}{
		{"nothing wanted", Set{}, docker, nil},
		{"nobody else filters", set, Live{}, []Chain{nat, mss, first}},
		{"somebody filters", set, plain, []Chain{nat, mss, first}},
		{"Docker filters", set, docker, []Chain{nat, mss, overlay, last}},
		{"guest where nobody filters", set.Guest(), Live{}, nil},
		{"guest where somebody filters", set.Guest(), plain, []Chain{first}},
		{"guest where Docker filters", set.Guest(), docker, []Chain{overlay, last}},
		{"Docker 28 filters", set, docker28, []Chain{raw, nat, mss, overlay, last}},
		{"guest where Docker 28 filters", set.Guest(), docker28, []Chain{raw, overlay, last}},
		{"guest where only the raw table drops", set.Guest(), Live{RawDrops: true}, []Chain{raw}},
		{"the raw table drops", set, Live{RawDrops: true}, []Chain{raw, nat, mss, first}},
		{"nothing wanted of a guest", Set{}.Guest(), docker, nil},
		{"no overlay device", Set{Forward: set.Forward}, docker, []Chain{last}},
	} {
		if got := c.set.Chains(c.live); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	set := Set{Raw: []Rule{{In: "c"}}, Overlay: []Rule{{In: "a"}}, Forward: []Rule{{In: "b"}}}
	for _, c := range []struct {
		live Live
		want []string
	}{
		{Live{}, nil},
		{Live{PolicyDrop: true, InUse: true}, []string{
			"iptables: FORWARD drops by policy; the network's packets are accepted, in WEFT-FORWARD",
		}},
		{Live{PolicyDrop: true, InUse: true, DockerUser: true, DockerForward: true}, []string{
			"iptables: raw PREROUTING drops packets routed to containers (Docker 28 and later); those from other nodes are accepted before, in WEFT-RAW",
			"iptables: Docker filters forwarded packets; those between nodes are accepted before, from DOCKER-USER, in WEFT-OVERLAY",
			"iptables: FORWARD drops by policy; the network's packets are accepted, in WEFT-FORWARD",
		}},
	} {
		if got := c.live.Answers("iptables", set.Chains(c.live)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.live, got, c.want)
		}
	}
}
