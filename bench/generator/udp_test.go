package generator

import (
	"encoding/binary"
	"testing"
)

// Of a batch, only whole datagrams count, and only those of the latest step as
// the step's.
func TestTake(t *testing.T) {
	const size = 64
	b := make([]byte, batch*size)
	headers := messages(b, size)
	r := &udpReceiver{spec: Spec{Size: size}}
	for i, d := range []struct{ step, length uint32 }{
		{1, size}, {1, size}, {2, size - 1}, {1, 0}, {2, size}, {2, size}, {1, size}, {2, size},
	} {
		binary.NativeEndian.PutUint32(b[i*size:], d.step)
		headers[i].Len = d.length
	}
	for _, c := range []struct {
		batch           int
		packets, ofStep uint64
	}{{4, 2, 2}, {8, 2 + 6, 3}} {
		r.take(headers[:c.batch])
		if got := r.count(); got.Packets != c.packets || got.Bytes != c.packets*size || r.ofStep.Load() != c.ofStep {
			t.Errorf("%d: %+v, of the step %d", c.batch, got, r.ofStep.Load())
		}
	}
}
