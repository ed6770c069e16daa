package chart

// Sheet is an SVG file of its own, with charts side by side in columns. It
// brings its paper along, so that it is right on any background.
func Sheet(title string, charts []*Chart, columns int) []byte {
	columns = max(min(columns, len(charts)), 1)
	width, y := float64(columns*Width), 0.0
	var body writer
	for len(charts) > 0 {
		row := charts[:min(columns, len(charts))]
		charts = charts[len(row):]
		tallest := 0.0
		for i, c := range row {
			body.WriteString(`<g transform="translate(` + num(float64(i*Width)) + " " + num(y) + `)">`)
			c.draw(&body)
			body.end("g")
			tallest = max(tallest, c.height())
		}
		y += tallest
	}
	var w writer
	w.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="` + escape(title) +
		`" viewBox="0 0 ` + num(width) + " " + num(y) + `" width="` + num(width) + `" height="` + num(y) + `">` + "\n")
	w.note("title", title)
	w.open("style")
	w.WriteString(CSS())
	w.end("style")
	w.shape("rect", "paper", place{"width", width}, place{"height", y}, place{"rx", 8})
	w.WriteString(body.String())
	w.end("svg")
	return []byte(w.String())
}
