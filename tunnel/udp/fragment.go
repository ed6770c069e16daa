package udp

import (
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

// fragmenter is the scratch memory of the slow way that packets without DF
// take which do not fit.
type fragmenter struct {
	whole  []byte
	pieces [][]byte
	info   packet.Info
}

// fragment fragments each packet of s.segments that does not fit the way to
// its peer, and sends all of them. It allocates: this is not the way of a
// packet that matters for speed.
func (s *sender) fragment(batch *sendBatch, peer *tunnel.Peer, tos uint8, limit int) error {
	segs, f := &s.segments, &s.slow
	for i := range segs.Count {
		f.whole = f.whole[:0]
		for _, p := range segs.Slice(i, i+1) {
			f.whole = append(f.whole, p...)
		}
		why := f.info.Parse(f.whole)
		if why == packet.OK {
			f.pieces, why = packet.AppendFragments(f.pieces[:0], f.whole, &f.info, limit)
		}
		if why != packet.OK {
			s.counters.drop(reason(why), 1)
			continue
		}
		for j := 0; j < len(f.pieces); j += 2 {
			pair := f.pieces[j : j+2]
			size := len(pair[0]) + len(pair[1])
			if err := batch.add(peer, tos, &packet.Segments{Pieces: pair, Count: 1, Size: size, Last: size}); err != nil {
				return err
			}
		}
		// f.whole is used again for the next packet.
		if err := batch.flush(); err != nil {
			return err
		}
	}
	return nil
}
