{{/* The pod that runs a scenario: (list . flags...) where the flags are added to the command line. */}}
{{- define "loadband.rebalanceContainer" -}}
{{- $ := first . -}}
{{- $run := $.Values.rebalance -}}
{{- $arguments := list "rebalance" "run" (ternary "/etc/loadband/scenario.toml" $run.scenario (not (empty $run.scenarioFile))) -}}
{{- $arguments = concat $arguments (list "--platform" "kubernetes" "--namespace" $run.namespace "--image" (include "loadband.image" $)) -}}
{{- range $flag := list "nodes" "prometheus" "alertmanager" "rebalancer" "descheduler" "scheduler" -}}
{{- with get $run $flag }}{{ $arguments = concat $arguments (list (printf "--%s" $flag) .) }}{{ end -}}
{{- end -}}
image: {{ include "loadband.rebalanceImage" $ }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
securityContext:
  {{- toYaml $.Values.securityContext | nindent 2 }}
args:
  {{- toYaml (concat $arguments (default list $run.args) (rest .)) | nindent 2 }}
{{- with $.Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
# Each run makes a new folder of its own here.
workingDir: /reports
volumeMounts:
  - name: reports
    mountPath: /reports
  - name: tmp
    mountPath: /tmp
  {{- if $run.scenarioFile }}
  - name: scenario
    mountPath: /etc/loadband
    readOnly: true
  {{- end }}
  {{- with $.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- $resources := dict }}
  {{- range $name, $amounts := $run.resources }}
  {{- $_ := set $resources $name (include "loadband.amounts" $amounts | fromYaml) }}
  {{- end }}
  {{- toYaml $resources | nindent 2 }}
{{- end -}}

{{/* Its volumes: (list . claim) where the claim is for the reports, or nothing. */}}
{{- define "loadband.rebalanceVolumes" -}}
{{- $ := first . -}}
- name: reports
  {{- if last . }}
  persistentVolumeClaim:
    claimName: {{ last . }}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: tmp
  emptyDir: {}
{{- if $.Values.rebalance.scenarioFile }}
- name: scenario
  configMap:
    name: {{ include "loadband.fullname" $ }}-scenario
{{- end }}
{{- with $.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "loadband.rebalanceLabels" -}}
app.kubernetes.io/name: {{ include "loadband.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: rebalance
app.kubernetes.io/part-of: loadband
{{- end -}}

{{/* The spec of a Job. */}}
{{- define "loadband.rebalanceSpec" -}}
# A verdict is a result: nothing is repeated.
backoffLimit: 0
template:
  metadata:
    labels:
      {{- toYaml (merge (include "loadband.rebalanceLabels" . | fromYaml) (default dict .Values.podLabels) (default dict .Values.commonLabels)) | nindent 6 }}
    {{- $annotations := default dict .Values.podAnnotations }}
    {{- with .Values.rebalance.scenarioFile }}
    {{- $annotations = merge (dict "checksum/scenario" (sha256sum .)) $annotations }}
    {{- end }}
    {{- with $annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- include "loadband.podBase" . | nindent 4 }}
    {{- with .Values.affinity }}
    affinity:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    restartPolicy: Never
    enableServiceLinks: false
    # To undo what the run changed, and wait until its pods are gone.
    terminationGracePeriodSeconds: {{ default 90 $.Values.terminationGracePeriodSeconds }}
    containers:
      - name: rebalance
        {{- include "loadband.rebalanceContainer" (list .) | nindent 8 }}
    volumes:
      {{- include "loadband.rebalanceVolumes" (list . .Values.rebalance.existingClaim) | nindent 6 }}
{{- end -}}
