package chart

import (
	"fmt"
	"math"
	"testing"
)

// linear is the light of red, green and blue of an sRGB colour, 0 to 1.
func linear(t *testing.T, hex string) (rgb [3]float64) {
	t.Helper()
	var code [3]int
	if _, err := fmt.Sscanf(hex, "#%02x%02x%02x", &code[0], &code[1], &code[2]); err != nil {
		t.Fatal(hex, err)
	}
	for i := range rgb {
		if v := float64(code[i]) / 255; v <= 0.04045 {
			rgb[i] = v / 12.92
		} else {
			rgb[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return rgb
}

// contrast as WCAG 2.2 defines it.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(hex string) float64 {
		rgb := linear(t, hex)
		return 0.2126*rgb[0] + 0.7152*rgb[1] + 0.0722*rgb[2]
	}
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func TestContrast(t *testing.T) {
	if c := contrast(t, "#000000", "#ffffff"); math.Abs(c-21) > 1e-9 {
		t.Fatalf("black on white has %v", c)
	}
	check := func(what string, c tone, least float64) {
		t.Helper()
		for kind, of := range map[string]func(tone) string{"light": light, "dark": dark} {
			if got := contrast(t, of(c), of(paper)); got < least {
				t.Errorf("%s on %s paper has a contrast of %.2f", what, kind, got)
			}
		}
	}
	for i, c := range palette {
		check(fmt.Sprintf("colour %d", i), c, 3)
	}
	check("ink", ink, 7)
	check("faint text", faint, 4.5)
}

// How colours look without one kind of cones: Machado, Oliveira and Fernandes
// 2009, table 1, severity 1.
var visions = map[string][3][3]float64{
	"all cones":         {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"without L (red)":   {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"without M (green)": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
	"without S (blue)":  {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
}

// lab is a colour in CIELAB, white D65.
func lab(rgb [3]float64) [3]float64 {
	f := func(v float64) float64 {
		if v > 216.0/24389 {
			return math.Cbrt(v)
		}
		return (24389.0/27*v + 16) / 116
	}
	x := f((0.4124*rgb[0] + 0.3576*rgb[1] + 0.1805*rgb[2]) / 0.9505)
	y := f(0.2126*rgb[0] + 0.7152*rgb[1] + 0.0722*rgb[2])
	z := f((0.0193*rgb[0] + 0.1192*rgb[1] + 0.9505*rgb[2]) / 1.0890)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

func TestColoursCanBeToldApart(t *testing.T) {
	for vision, m := range visions {
		for kind, of := range map[string]func(tone) string{"light": light, "dark": dark} {
			var seen [][3]float64
			for _, c := range palette {
				rgb, look := linear(t, of(c)), [3]float64{}
				for i, row := range m {
					look[i] = min(max(row[0]*rgb[0]+row[1]*rgb[1]+row[2]*rgb[2], 0), 1)
				}
				seen = append(seen, lab(look))
			}
			for i, a := range seen {
				for j, b := range seen[:i] {
					if d := math.Sqrt(math.Pow(a[0]-b[0], 2) + math.Pow(a[1]-b[1], 2) + math.Pow(a[2]-b[2], 2)); d < 16 {
						t.Errorf("%s, %s: colours %d and %d are %.1f apart", vision, kind, j, i, d)
					}
				}
			}
		}
	}
}
