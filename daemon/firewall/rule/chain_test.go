package rule

import (
	"reflect"
	"testing"
)

func TestChains(t *testing.T) {
	set := Set{
		Postrouting: []Rule{{Action: Masquerade}},
		Clamp:       []Rule{{Action: ClampMSS}},
		Overlay:     []Rule{{In: "a"}},
		Forward:     []Rule{{In: "b"}},
	}
	nat := Chain{Table: "nat", Name: "WEFT-POSTROUTING", From: "POSTROUTING", Rules: set.Postrouting}
	mss := Chain{Table: "mangle", Name: "WEFT-MSS", From: "FORWARD", Rules: set.Clamp}
	overlay := Chain{Table: "filter", Name: "WEFT-OVERLAY", From: "DOCKER-USER", Rules: set.Overlay}
	first := Chain{Table: "filter", Name: "WEFT-FORWARD", From: "FORWARD", Rules: set.Forward}
	last := first
	last.Last = true
	plain, docker := FilterTable{InUse: true}, FilterTable{InUse: true, DockerUser: true}
	for _, c := range []struct {
		name   string
		set    Set
		filter FilterTable
		want   []Chain
	}{
		{"nothing wanted", Set{}, docker, nil},
		{"nobody else filters", set, FilterTable{}, []Chain{nat, mss, first}},
		{"somebody filters", set, plain, []Chain{nat, mss, first}},
		{"Docker filters", set, docker, []Chain{nat, mss, overlay, last}},
		{"guest where nobody filters", set.Guest(), FilterTable{}, nil},
		{"guest where somebody filters", set.Guest(), plain, []Chain{first}},
		{"guest where Docker filters", set.Guest(), docker, []Chain{overlay, last}},
		{"nothing wanted of a guest", Set{}.Guest(), docker, nil},
		{"no overlay device", Set{Forward: set.Forward}, docker, []Chain{last}},
	} {
		if got := c.set.Chains(c.filter); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
