package packet

import (
	"fmt"
	"testing"
)

// BenchmarkSum sums one buffer again and again, which stays in the nearest
// cache: headers, a packet, a superpacket.
func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 32, 40, 64, 1400, 65535} {
		p := bytesOf(n)
		for _, v := range sumVariants {
			if n < v.min {
				continue
			}
			b.Run(fmt.Sprintf("%d/%s", n, v.name), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					v.sum(p, 0)
				}
			})
		}
	}
}

// BenchmarkSumChunks sums 1 MB in chunks of 1,400 bytes, as a batch of
// superpackets would have it.
func BenchmarkSumChunks(b *testing.B) {
	const chunk = 1400
	p := bytesOf(1 << 20 / chunk * chunk)
	for _, v := range sumVariants {
		b.Run(v.name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				for at := 0; at < len(p); at += chunk {
					v.sum(p[at:at+chunk], 0)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(p)/chunk), "ns/chunk")
		})
	}
}
