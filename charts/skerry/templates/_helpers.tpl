{{- define "skerry.labels" -}}
app.kubernetes.io/name: skerry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: skerry
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "skerry.selector" -}}
app.kubernetes.io/name: skerry
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "skerry.image" -}}
{{- $given := index .root.Values.images .name -}}
{{- if $given -}}{{ $given }}
{{- else -}}{{ .root.Values.images.repository }}-{{ .name }}:{{ .root.Values.images.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "skerry.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "skerry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "skerry.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "skerry.registry.push" -}}
{{- if .Values.registry.embedded.enabled -}}registry.{{ .Release.Namespace }}.svc:5000
{{- else -}}{{ required "registry.external.host is needed when registry.embedded.enabled is false" .Values.registry.external.host }}
{{- end -}}
{{- end }}

{{- define "skerry.registry.secret" -}}
{{- if .Values.registry.embedded.enabled -}}registry-push{{- else -}}{{ .Values.registry.external.credentialsSecretName }}{{- end -}}
{{- end }}

{{- define "skerry.registry.pullSecret" -}}
{{- if not .Values.registry.embedded.enabled -}}
{{ .Values.registry.external.pullCredentialsSecretName | default .Values.registry.external.credentialsSecretName }}
{{- end -}}
{{- end }}

{{- /* What the operator needs to know, as skerry.manifests.settings.InstallationSettings reads it. */ -}}
{{- define "skerry.installation" -}}
{{- $embedded := .Values.registry.embedded -}}
{{- $push := include "skerry.registry.push" . -}}
{{- $insecure := .Values.registry.insecure -}}
{{- $pull := $push -}}
{{- $read := "" -}}
{{- if $embedded.enabled -}}
{{- $pull = printf "localhost:%d" (int $embedded.nodePort) -}}
{{- $read = printf "registry-nodes.%s.svc:5000" .Release.Namespace -}}
{{- $insecure = concat $insecure (list $push (printf "registry.%s:5000" .Release.Namespace) $pull $read) -}}
{{- end -}}
{{- $tools := dict -}}
{{- range $group := .Values.optimizer.tools -}}
{{- $_ := set $tools $group (include "skerry.image" (dict "root" $ "name" (printf "optimizer-%s" $group))) -}}
{{- end -}}
{{- with index .Values.images "optimizer-tensorrt" -}}
{{- $_ := set $tools "tensorrt" . -}}
{{- end -}}
{{- dict
  "optimizerImage" (include "skerry.image" (dict "root" . "name" "optimizer"))
  "toolImages" $tools
  "serverImage" (include "skerry.image" (dict "root" . "name" "server"))
  "serverImages" (dict "LlamaCpp" (include "skerry.image" (dict "root" . "name" "server-llamacpp")))
  "imagePullPolicy" .Values.images.pullPolicy
  "imagePullSecrets" .Values.images.pullSecrets
  "allowHttp" .Values.sources.allowHttp
  "caBundle" .Values.sources.caBundle
  "huggingFaceEndpoint" .Values.sources.huggingFaceEndpoint
  "imageVolumes" .Values.imageVolumes
  "optimizerResources" .Values.optimizer.resources
  "serverResources" .Values.server.resources
  "workSize" .Values.optimizer.workSize
  "registry" (dict
    "push" $push "pull" $pull "read" $read "prefix" .Values.registry.prefix "insecure" $insecure
    "credentialsSecret" (include "skerry.registry.secret" .)
    "pullCredentialsSecret" (include "skerry.registry.pullSecret" .))
  | toJson -}}
{{- end }}

{{- define "skerry.registry.config" -}}
# For optimization Jobs and people: everything, with credentials.
write.yml: |
  version: 0.1
  log: {level: warn, formatter: json}
  storage:
    filesystem: {rootdirectory: /data}
    delete: {enabled: true}
  auth:
    htpasswd: {realm: skerry, path: /htpasswd/htpasswd}
  http:
    addr: :5000
    draintimeout: 10s
# For nodes: reading only, without credentials. Nothing is cached in memory: what is pushed is there at once.
read.yml: |
  version: 0.1
  log: {level: warn, formatter: json}
  storage:
    filesystem: {rootdirectory: /data}
    delete: {enabled: false}
    maintenance:
      readonly: {enabled: true}
      uploadpurging: {enabled: false}
  http:
    addr: :5001
    draintimeout: 10s
{{- end }}
