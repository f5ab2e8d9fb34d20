{{/* What names of objects begin with. */}}
{{- define "paceline.name" -}}
{{- $own := ternary .Release.Name (printf "%s-paceline" .Release.Name) (contains "paceline" .Release.Name) -}}
{{- .Values.name | default $own | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that Helm's users look for. */}}
{{- define "paceline.labels" -}}
app.kubernetes.io/name: paceline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* What selects the pods of a role. Takes a list: root, role. */}}
{{- define "paceline.selector" -}}
app.kubernetes.io/name: paceline
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Port of a role's calls; health is 100 above it, metrics 200. */}}
{{- define "paceline.port" -}}
{{- get (dict "orchestrator" 7070 "target" 7071 "draft" 7072) . -}}
{{- end -}}

{{/* The service that a role's health port names where it is ready. */}}
{{- define "paceline.service" -}}
paceline.v1.{{ get (dict "orchestrator" "GenerationService" "target" "TargetService" "draft" "DraftService") . }}
{{- end -}}

{{/* The environment of a server: its settings, over what follows from other values. Takes root, role. */}}
{{- define "paceline.environment" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $name := include "paceline.name" $root -}}
{{- $settings := dict "host" "0.0.0.0" "plaintext" (not $root.Values.tls.enabled) -}}
{{- if eq $role "orchestrator" -}}
{{- $_ := set $settings "target" (printf "%s-target:7071" $name) -}}
{{- $_ := set $settings "draft" (printf "%s-draft:7072" $name) -}}
{{- if $root.Values.tokens.secret -}}
{{- $_ := set $settings "token_file" "/tokens/tokens.toml" -}}
{{- end -}}
{{- end -}}
{{- if $root.Values.tls.enabled -}}
{{- $_ := set $settings "tls_certificate" "/tls/tls.crt" -}}
{{- $_ := set $settings "tls_key" "/tls/tls.key" -}}
{{- $_ := set $settings (ternary "tls_server_ca" "tls_client_ca" (eq $role "orchestrator")) "/tls/ca.crt" -}}
{{- end -}}
{{- range $setting, $value := merge (deepCopy (index $root.Values $role).settings) $settings }}
{{- /* Whole numbers come as floats, of which large ones would be written as 4.1e+06. */}}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}{{ $value = int64 $value }}{{ end }}
{{ printf "PACELINE_%s_%s" $role $setting | upper }}: {{ $value | toString | quote }}
{{- end -}}
{{- end -}}

{{/* What the container that pulls and the one that serves have alike. Takes root, role. */}}
{{- define "paceline.container" -}}
{{- $image := (index . 0).Values.image -}}
image: {{ with $image.registry }}{{ . }}/{{ end }}{{ (index (index . 0).Values (index . 1)).image }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- with $image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- if ne (index . 1) "orchestrator" }}
env:
  - name: HOME
    value: /tmp
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
{{- end -}}

{{/* How pods go: a lower number has to be enough for long, and then one goes at a time, whose streams move. */}}
{{- define "paceline.down" -}}
scaleDown:
  stabilizationWindowSeconds: {{ .Values.scaling.downSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end -}}
