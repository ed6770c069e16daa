package tunnel

import (
	"slices"
	"testing"
)

func taken(e *Echoes) (list []uint64) {
	e.Take(func(seq uint64) { list = append(list, seq) })
	return list
}

func TestEchoes(t *testing.T) {
	var e Echoes
	if e.Note(0) || e.Note(1) {
		t.Error("an answer before the first probe")
	}
	nonces := make(map[uint64]uint64)
	for range 3 {
		seq, nonce := e.Next()
		nonces[seq] = nonce
	}
	if nonces[3] != nonces[1]+2 || len(nonces) != 3 {
		t.Fatalf("nonces %v", nonces)
	}
	for nonce, want := range map[uint64]bool{nonces[1] - 1: false, nonces[1]: true, nonces[3]: true, nonces[3] + 1: false, 1: false} {
		if e.Note(nonce) != want {
			t.Errorf("nonce %x of probes %v: %v", nonce, nonces, !want)
		}
	}
	if got := taken(&e); !slices.Equal(got, []uint64{1, 3}) {
		t.Errorf("answered: %v", got)
	}
	if got := taken(&e); len(got) != 0 {
		t.Errorf("answered again: %v", got)
	}
	for range EchoWindow {
		e.Next()
	}
	if e.Note(nonces[3]) {
		t.Error("an answer from before the window")
	}
	if !e.Note(nonces[3]+1) || !slices.Equal(taken(&e), []uint64{4}) {
		t.Error("the first of the window is not taken")
	}
	// A bit that nobody took is not that of the probe a window later.
	e.Note(nonces[3] + 2)
	e.Next()
	e.Next()
	if got := taken(&e); len(got) != 0 {
		t.Errorf("answered: %v", got)
	}
}
