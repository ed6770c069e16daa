package packet

// hasVector tells whether sumVector can run: every arm64 machine that Go runs on
// has NEON.
const hasVector = true

// sumVector returns the unfolded sum of b's 32-bit words in the machine's byte
// order, with zeros behind the last byte. It needs at least 16 bytes.
//
//go:noescape
func sumVector(b []byte) uint64
