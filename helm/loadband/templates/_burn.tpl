{{/* How much a pod may burn, and for how long. Here, amounts of CPU are whole millicores and times are milliseconds. */}}

{{/* A string or number as the user wrote it: 1000000, not 1e+06. */}}
{{- define "loadband.text" -}}
{{- if not (kindIs "invalid" .) -}}{{ toJson . | trimAll "\"" }}{{- end -}}
{{- end -}}

{{/* An amount of CPU in millicores, rounded up: 250m, 0.25 and 0.2495 are 250. */}}
{{- define "loadband.millicores" -}}
{{- $text := include "loadband.text" . -}}
{{- if hasSuffix "m" $text -}}
{{- trimSuffix "m" $text -}}
{{- else -}}
{{- mulf $text 1000 | ceil | int64 -}}
{{- end -}}
{{- end -}}

{{/* Millicores as the API server writes them: 250m, but 1 instead of 1000m. */}}
{{- define "loadband.quantity" -}}
{{- $millicores := int64 . -}}
{{- if mod $millicores 1000 -}}{{ $millicores }}m{{- else -}}{{ div $millicores 1000 }}{{- end -}}
{{- end -}}

{{/* A time (1h, 1.5s, 500ms, 90) in milliseconds. */}}
{{- define "loadband.milliseconds" -}}
{{- $text := include "loadband.text" . -}}
{{- $factors := dict "" 1000 "ms" 1 "s" 1000 "m" 60000 "h" 3600000 -}}
{{- $unit := regexFind "[a-z]*$" $text -}}
{{- mulf (trimSuffix $unit $text) (get $factors $unit) | ceil | int64 -}}
{{- end -}}

{{/* The user's resources.limits.cpu in millicores, or nothing. */}}
{{- define "loadband.givenLimit" -}}
{{- $limits := default dict (default dict .Values.resources).limits -}}
{{- if $limits.cpu -}}{{ include "loadband.millicores" $limits.cpu }}{{- end -}}
{{- end -}}

{{/* The ceiling that the program gets (MAX_EFFORT), or nothing. */}}
{{- define "loadband.maxEffort" -}}
{{- $asked := include "loadband.text" .Values.maxEffort -}}
{{- if not (has $asked (list "" "none")) -}}
{{- include "loadband.millicores" $asked -}}
{{- else if and (eq $asked "") (eq .Values.kind "Deployment") (not .Values.effort) (not (include "loadband.givenLimit" .)) (ne .Values.scope "container") -}}
200
{{- end -}}
{{- end -}}

{{/* The most that a pod's settings let it burn, or nothing if only its CPU limit or the node bounds it. */}}
{{- define "loadband.effort" -}}
{{- if .Values.effort -}}{{ include "loadband.millicores" .Values.effort }}{{- else -}}{{ include "loadband.maxEffort" . }}{{- end -}}
{{- end -}}

{{/* The CPU limit of a pod, or nothing. */}}
{{- define "loadband.limit" -}}
{{- $given := include "loadband.givenLimit" . -}}
{{- $effort := include "loadband.effort" . -}}
{{- if $given -}}
{{- $given -}}
{{- else if $effort -}}
{{- addf (mulf $effort 1.25) 50 | ceil | int64 -}}
{{- end -}}
{{- end -}}

{{/* The highest utilization asked for, in percent; the chart can't know how high a profile goes. */}}
{{- define "loadband.highest" -}}
{{- if .Values.profile -}}100{{- else -}}{{ .Values.band.max }}{{- end -}}
{{- end -}}

{{/* The most that a pod can burn, in millicores, or nothing if only its node bounds it. */}}
{{- define "loadband.burns" -}}
{{- $limit := include "loadband.givenLimit" . -}}
{{- if and (eq .Values.scope "container") $limit (not .Values.effort) -}}
{{- $limit = mulf $limit (divf (include "loadband.highest" .) 100) | ceil | int64 | toString -}}
{{- end -}}
{{- $amounts := list -}}
{{- range compact (list (include "loadband.effort" .) $limit) -}}
{{- $amounts = append $amounts (int64 .) -}}
{{- end -}}
{{- if $amounts -}}
{{- $least := first $amounts -}}
{{- range $amounts }}{{ $least = min $least . }}{{ end -}}
{{- $least -}}
{{- end -}}
{{- end -}}
