{{- /* The rules of operator/skerry/accelerators/matching.py, for values that are wrong at installation; a test compares both. */ -}}

{{- define "skerry.match.parts" -}}
{{- $parts := list }}
{{- $match := . }}
{{- range list "pci" "usb" "deviceTree" "device" "nodeLabels" }}
{{- if get $match . }}
{{- $parts = append $parts . }}
{{- end }}
{{- end }}
{{- toJson $parts }}
{{- end }}

{{- define "skerry.match.specificity" -}}
{{- $pci := .pci | default dict }}
{{- $usb := .usb | default dict }}
{{- $device := .device | default dict }}
{{- add
  (ternary 100 0 (or $pci.devices $usb.products | empty | not))
  (ternary 40 0 (empty .deviceTree | not))
  (ternary 20 0 (empty $device.names | not))
  (ternary 10 0 (empty $device.drivers | not))
  (ternary 2 0 (or $pci.classPrefix $device.deviceClass | empty | not))
  (ternary 1 0 (or $pci.vendor $usb.vendor | empty | not)) }}
{{- end }}

{{- /* What two lists have in common, where an empty one stands for everything. */ -}}
{{- define "skerry.match.common" -}}
{{- $one := index . 0 | default list }}
{{- $other := index . 1 | default list }}
{{- $common := list }}
{{- if and (empty $one) (empty $other) }}
{{- $common = list "*" }}
{{- else if empty $one }}
{{- $common = $other }}
{{- else if empty $other }}
{{- $common = $one }}
{{- else }}
{{- range $one }}
{{- if has . $other }}
{{- $common = append $common . }}
{{- end }}
{{- end }}
{{- end }}
{{- sortAlpha $common | toJson }}
{{- end }}

{{- /* What two matches have in common, in words; an empty list when no device can fulfil both. */ -}}
{{- define "skerry.match.both" -}}
{{- $one := index . 0 }}
{{- $other := index . 1 }}
{{- $words := list }}
{{- $parts := include "skerry.match.parts" $one }}
{{- if eq $parts (include "skerry.match.parts" $other) }}
{{- $apart := false }}
{{- range $part := fromJsonArray $parts }}
{{- $mine := get $one $part }}
{{- $theirs := get $other $part }}
{{- $common := list }}
{{- if eq $part "pci" }}
{{- $prefixes := or (hasPrefix ($mine.classPrefix | default "") ($theirs.classPrefix | default "")) (hasPrefix ($theirs.classPrefix | default "") ($mine.classPrefix | default "")) }}
{{- if and $prefixes (eq $mine.vendor $theirs.vendor) }}
{{- $common = include "skerry.match.common" (list $mine.devices $theirs.devices) | fromJsonArray }}
{{- end }}
{{- if $common }}
{{- $words = append $words (printf "PCI %s:%s" $mine.vendor (join "," $common)) }}
{{- end }}
{{- else if eq $part "usb" }}
{{- if eq $mine.vendor $theirs.vendor }}
{{- $common = include "skerry.match.common" (list $mine.products $theirs.products) | fromJsonArray }}
{{- end }}
{{- if $common }}
{{- $words = append $words (printf "USB %s:%s" $mine.vendor (join "," $common)) }}
{{- end }}
{{- else if eq $part "deviceTree" }}
{{- $common = include "skerry.match.common" (list $mine.compatible $theirs.compatible) | fromJsonArray }}
{{- $words = append $words (printf "boards compatible with %s" (join ", " $common)) }}
{{- else if eq $part "device" }}
{{- $drivers := include "skerry.match.common" (list $mine.drivers $theirs.drivers) | fromJsonArray }}
{{- $named := include "skerry.match.common" (list $mine.names $theirs.names) | fromJsonArray }}
{{- if and (eq $mine.deviceClass $theirs.deviceClass) $drivers $named }}
{{- $common = list $mine.deviceClass }}
{{- end }}
{{- $words = append $words (printf "devices of the class %s" $mine.deviceClass) }}
{{- else if eq (toJson $mine) (toJson $theirs) }}
{{- $common = keys $mine | sortAlpha }}
{{- $words = append $words (printf "nodes labelled %s" (join ", " $common)) }}
{{- end }}
{{- if empty $common }}
{{- $apart = true }}
{{- end }}
{{- end }}
{{- if $apart }}
{{- $words = list }}
{{- end }}
{{- end }}
{{- toJson $words }}
{{- end }}

{{- /* The built-in accelerators and the site's own, as operator and probe read them. */ -}}
{{- define "skerry.catalogue" -}}
{{- $entries := .Files.Get "files/catalogue.json" | fromJsonArray }}
{{- $names := list }}
{{- range $entries }}
{{- $names = append $names .name }}
{{- end }}
{{- range $number, $extra := .Values.accelerators.extra }}
{{- if has $extra.name $names }}
{{- fail (printf "accelerators.extra[%d]: there is an accelerator named %s already" $number $extra.name) }}
{{- end }}
{{- if not $extra.match }}
{{- fail (printf "accelerators.extra[%d] (%s): match must have a way to recognise it" $number $extra.name) }}
{{- end }}
{{- $ranked := list }}
{{- range $extra.frameworks }}{{ $ranked = append $ranked .name }}{{- end }}
{{- range $framework, $_ := $extra.devices | default dict }}
{{- if not (has $framework $ranked) }}
{{- fail (printf "accelerators.extra[%d].devices (%s): %s is not among its frameworks" $number $extra.name $framework) }}
{{- end }}
{{- end }}
{{- range $index, $candidate := $extra.candidates | default list }}
{{- if not (hasKey ($extra.devices | default dict) $candidate.framework) }}
{{- fail (printf "accelerators.extra[%d].candidates[%d] (%s): devices does not say on which device %s runs" $number $index $extra.name $candidate.framework) }}
{{- end }}
{{- end }}
{{- range $index, $match := $extra.match | default list }}
{{- $parts := include "skerry.match.parts" $match | fromJsonArray }}
{{- if or (empty $parts) (and (has "nodeLabels" $parts) (gt (len $parts) 1)) }}
{{- fail (printf "accelerators.extra[%d].match[%d] (%s) must say something: pci, usb, deviceTree or device, or nodeLabels alone" $number $index $extra.name) }}
{{- end }}
{{- range $other := $entries }}
{{- range $another := $other.match | default list }}
{{- $what := include "skerry.match.both" (list $match $another) | fromJsonArray }}
{{- if and $what (eq (include "skerry.match.specificity" $match) (include "skerry.match.specificity" $another)) }}
{{- fail (printf "accelerators.extra[%d].match[%d]: %s and %s both match %s, and neither is more specific" $number $index $other.name $extra.name (join " on " $what)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $names = append $names $extra.name }}
{{- $entries = append $entries $extra }}
{{- end }}
{{- toJson $entries }}
{{- end }}
